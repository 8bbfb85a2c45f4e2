//! Everything the log does to files that can fail for reasons outside the process, in one place: tests put a disk that fills
//! up, fails or loses power in its stead.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Seek, SeekFrom, Write};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The changes the log makes on disk. Every method is told the path, for tests and messages.
pub(super) trait Disk: Send + Sync {
    /// A new file, open for reading and writing.
    fn create(&self, path: &Path) -> io::Result<File>;
    /// Writes all of `parts`, one behind the other, at `offset`.
    fn write_all_at(&self, file: &File, path: &Path, offset: u64, parts: &mut [IoSlice<'_>]) -> io::Result<()>;
    /// Makes the content of the file durable.
    fn sync(&self, file: &File, path: &Path) -> io::Result<()>;
    /// Renames within a folder, replacing what has the name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in a folder durable.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// The most that new files in a folder can have, where that is known. A quota may allow less.
    fn free_bytes(&self, _folder: &Path) -> Option<u64> {
        None
    }
}

/// The operating system's file system.
pub(super) struct RealDisk;

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)
    }

    fn write_all_at(&self, mut file: &File, _path: &Path, offset: u64, mut parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        // The cursor is the writer's alone: readers use positioned reads.
        file.seek(SeekFrom::Start(offset))?;
        while !parts.is_empty() {
            match file.write_vectored(parts) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut parts, written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn sync(&self, file: &File, _path: &Path) -> io::Result<()> {
        // fdatasync: it covers the file's size too, where that changed.
        file.sync_data()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    // The fields' types differ between systems.
    #[allow(clippy::unnecessary_cast)]
    fn free_bytes(&self, folder: &Path) -> Option<u64> {
        let folder = CString::new(folder.as_os_str().as_bytes()).ok()?;
        let mut figures = MaybeUninit::<libc::statvfs>::uninit();
        // SAFETY: the path ends with NUL, and there is room for what is written.
        let failed = unsafe { libc::statvfs(folder.as_ptr(), figures.as_mut_ptr()) } != 0;
        if failed {
            return None;
        }
        // SAFETY: the call succeeded, so all of it was written.
        let figures = unsafe { figures.assume_init() };
        // SAFETY: it takes nothing and cannot fail.
        let is_root = unsafe { libc::geteuid() } == 0;
        // Some of what is free is for root alone.
        let blocks = if is_root { figures.f_bfree } else { figures.f_bavail };
        Some((blocks as u64).saturating_mul(figures.f_frsize as u64))
    }
}
