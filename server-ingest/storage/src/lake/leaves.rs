//! Columns of texts, bytes and 64-bit numbers that are mostly their own, alone or as the elements of lists.
//!
//! Values go from the batches straight into the page, a run of rows at a time. Texts and bytes are `DELTA_LENGTH_BYTE_ARRAY`, so that a run
//! is one copy and ids are nothing but ids; numbers are `DELTA_BINARY_PACKED`, or the keys of a dictionary when there are few of them.

use std::io::Write;
use std::ops::Range;

use arrow::array::{Array, AsArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Int64Type, TimeUnit, TimestampMicrosecondType};
use parquet::basic::Encoding;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::properties::EnabledStatistics;
use parquet::file::statistics::Statistics;
use parquet::file::writer::SerializedRowGroupWriter;
use parquet::schema::types::ColumnDescPtr;

use super::encoding::{differences, hybrid, run};
use super::order::Run;
use super::pages::{Chunk, PAGE_ROWS, PageFacts, Workbench, levels};
use super::words::{Few, Numbers, nulls_of};

/// Bytes of values after which a page ends: it and what it is compressed into are in the cache that a CPU has for itself, and who waits for the CPU
/// waits for half a millisecond.
const PAGE_BYTES: usize = 256 * 1024;

/// The longest ids.
const ID_BYTES: usize = 16;

/// A leaf of a column, and the arrays of all batches that hold its values.
pub(super) enum Leaf<'a> {
    /// Strings or binaries; the flag says that they are ids, which compressing makes no smaller.
    Bytes(Vec<Texts<'a>>, bool),
    Numbers(Vec<Numbers<'a, i64>>),
}

pub(super) struct Texts<'a> {
    offsets: &'a [i32],
    data: &'a [u8],
    nulls: Option<&'a NullBuffer>,
}

impl<'a> Leaf<'a> {
    /// `None` when the arrays are of a type that is not written here.
    pub(super) fn new(arrays: &[&'a dyn Array]) -> Option<Self> {
        let texts = |offsets: &'a [i32], data: &'a [u8], array| Texts { offsets, data, nulls: nulls_of(array) };
        let data_type = arrays.first()?.data_type();
        Some(match data_type {
            DataType::Utf8 => {
                let of = |array: &&'a dyn Array| {
                    let strings = array.as_string::<i32>();
                    texts(strings.value_offsets(), strings.value_data(), *array)
                };
                Self::Bytes(arrays.iter().map(of).collect(), false)
            }
            DataType::Binary => {
                let of = |array: &&'a dyn Array| {
                    let binaries = array.as_binary::<i32>();
                    texts(binaries.value_offsets(), binaries.value_data(), *array)
                };
                let arrays: Vec<_> = arrays.iter().map(of).collect();
                let are_ids = arrays.iter().all(Texts::are_ids);
                Self::Bytes(arrays, are_ids)
            }
            DataType::Int64 | DataType::Timestamp(TimeUnit::Microsecond, _) => {
                let of = |array: &&'a dyn Array| {
                    let values = match array.data_type() {
                        DataType::Int64 => array.as_primitive::<Int64Type>().values(),
                        _ => array.as_primitive::<TimestampMicrosecondType>().values(),
                    };
                    Numbers::new(values, *array)
                };
                Self::Numbers(arrays.iter().map(of).collect())
            }
            _ => return None,
        })
    }

    /// The leaves of a list of such values, or of structs of them, and where the lists of each batch end. `None` also when there is a null
    /// somewhere in them, which the walk never makes.
    pub(super) fn of_lists(arrays: &[&'a dyn Array]) -> Option<(Vec<&'a [i32]>, Vec<Self>)> {
        let lists = arrays.iter().map(|array| array.as_list_opt::<i32>().filter(|list| list.null_count() == 0));
        let lists = lists.collect::<Option<Vec<_>>>()?;
        let elements: Vec<&dyn Array> = lists.iter().map(|list| list.values().as_ref()).collect();
        if elements.iter().any(|elements| elements.null_count() > 0) {
            return None;
        }
        let members: Vec<Vec<&dyn Array>> = match elements.first()?.data_type() {
            DataType::Struct(fields) => (0..fields.len())
                .map(|member| elements.iter().map(|elements| elements.as_struct().column(member).as_ref()).collect())
                .collect(),
            _ => vec![elements],
        };
        if members.iter().flatten().any(|member| member.null_count() > 0) {
            return None;
        }
        let leaves = members.iter().map(|member| Self::new(member)).collect::<Option<Vec<_>>>()?;
        Some((lists.iter().map(|list| list.value_offsets()).collect(), leaves))
    }

    /// Whether its bounds are short enough to be kept whole; Parquet's writer has rules for cutting others.
    pub(super) fn has_short_bounds(&self) -> bool {
        !matches!(self, Self::Bytes(_, false))
    }

    /// Bytes of all values of a batch before `index`.
    fn bytes_before(&self, batch: usize, index: usize) -> usize {
        match self {
            Self::Bytes(texts, _) => texts[batch].offsets[index] as usize,
            Self::Numbers(_) => index * size_of::<i64>(),
        }
    }

    fn has_nulls(&self) -> bool {
        match self {
            Self::Bytes(texts, _) => texts.iter().any(|texts| texts.nulls.is_some()),
            Self::Numbers(numbers) => numbers.iter().any(|numbers| numbers.nulls.is_some()),
        }
    }

    fn nulls(&self, batch: usize) -> Option<&'a NullBuffer> {
        match self {
            Self::Bytes(texts, _) => texts[batch].nulls,
            Self::Numbers(numbers) => numbers[batch].nulls,
        }
    }

    /// Writes the rows as one chunk. `lists`: where the lists of each batch end, of whose elements this is a leaf; an empty list has the
    /// definition level `empty`.
    pub(super) fn write<W: Write + Send>(
        &self,
        lists: Option<(&[&[i32]], u32)>,
        runs: &[Run],
        column: ColumnDescPtr,
        statistics: EnabledStatistics,
        workbench: &mut Workbench,
        row_group: &mut SerializedRowGroupWriter<'_, W>,
    ) -> Result<(), ParquetError> {
        if let (Self::Numbers(numbers), None) = (self, lists)
            && let Some(few) = Few::of(numbers, runs)
        {
            let make = |least, most, nulls| Statistics::int64(least, most, None, Some(nulls), false);
            return few.write(column, statistics, i64::to_le_bytes, make, workbench, row_group);
        }
        let is_compressed = !matches!(self, Self::Bytes(_, true));
        let mut chunk = Chunk::new(column, is_compressed, statistics, workbench);
        let mut rest = Rest { runs, at: 0, inside: 0 };
        let mut page = Vec::new();
        let mut bounds = LeafBounds::default();
        let mut nulls = 0;
        while rest.take(&mut page, |batch, row| self.bytes_before(batch, lists.map_or(row, |(lists, _)| lists[batch][row] as usize))) {
            let rows = page.iter().map(|run| run.rows).sum();
            let slots = match lists {
                Some((lists, empty)) => self.begin_page_of_lists(lists, empty, &page, &chunk, workbench),
                None => {
                    self.begin_page(&page, rows, &chunk, workbench);
                    rows
                }
            };
            let elements = page.iter().map(|run| match lists {
                Some((lists, _)) => (run.batch, lists[run.batch][run.start] as usize..lists[run.batch][run.start + run.rows] as usize),
                None => (run.batch, run.range()),
            });
            let encoding = self.put(elements, statistics != EnabledStatistics::None, &mut bounds, workbench);
            let page_nulls = slots - workbench.numbers.len();
            nulls += page_nulls;
            let page_bounds = bounds.end_page();
            chunk.page(workbench, PageFacts { rows, slots, nulls: page_nulls, encoding, bounds: page_bounds })?;
        }
        let statistics = (statistics != EnabledStatistics::None).then(|| bounds.statistics(self, nulls as u64));
        chunk.close(statistics, workbench, row_group)
    }

    fn begin_page(&self, page: &[Run], rows: usize, chunk: &Chunk, workbench: &mut Workbench) {
        workbench.levels.clear();
        let present = chunk.column().max_def_level() as u32;
        let has_nulls = self.has_nulls();
        if has_nulls {
            for run in page {
                match self.nulls(run.batch) {
                    Some(nulls) => workbench.levels.extend(run.range().map(|row| if nulls.is_valid(row) { present } else { present - 1 })),
                    None => workbench.levels.extend(std::iter::repeat_n(present, run.rows)),
                }
            }
        }
        chunk.begin_page(
            workbench,
            rows,
            |page, levels, bits| if has_nulls { hybrid(page, levels, bits) } else { run(page, present, rows, bits) },
        );
    }

    /// Returns how many levels there are.
    fn begin_page_of_lists(&self, lists: &[&[i32]], empty: u32, page: &[Run], chunk: &Chunk, workbench: &mut Workbench) -> usize {
        let lengths =
            || page.iter().flat_map(|run| lists[run.batch][run.start..=run.start + run.rows].windows(2).map(|ends| ends[1] - ends[0]));
        let present = chunk.column().max_def_level() as u32;
        workbench.page.clear();
        workbench.levels.clear();
        for length in lengths() {
            workbench.levels.push(0);
            workbench.levels.extend((1..length).map(|_| 1));
        }
        let slots = workbench.levels.len();
        levels(&mut workbench.page, chunk.column().max_rep_level(), |page, bits| hybrid(page, &workbench.levels, bits));
        workbench.levels.clear();
        for length in lengths() {
            if length == 0 {
                workbench.levels.push(empty);
            } else {
                workbench.levels.extend((0..length).map(|_| present));
            }
        }
        levels(&mut workbench.page, chunk.column().max_def_level(), |page, bits| hybrid(page, &workbench.levels, bits));
        slots
    }

    /// Puts values into the page; afterwards there is one of [`Workbench::numbers`] for each.
    fn put(
        &self,
        elements: impl Iterator<Item = (usize, Range<usize>)> + Clone,
        bounded: bool,
        bounds: &mut LeafBounds,
        workbench: &mut Workbench,
    ) -> Encoding {
        workbench.numbers.clear();
        match self {
            Self::Bytes(texts, _) => {
                for (batch, range) in elements.clone() {
                    texts[batch].lengths(range, &mut workbench.numbers);
                }
                differences(&mut workbench.page, &workbench.numbers);
                for (batch, range) in elements {
                    if bounded {
                        texts[batch].values(range.clone()).for_each(|value| bounds.see_bytes(value));
                    }
                    texts[batch].put(range, &mut workbench.page);
                }
                Encoding::DELTA_LENGTH_BYTE_ARRAY
            }
            Self::Numbers(numbers) => {
                for (batch, range) in elements {
                    numbers[batch].put(range, &mut workbench.numbers);
                }
                differences(&mut workbench.page, &workbench.numbers);
                if bounded {
                    bounds.see_numbers(&workbench.numbers);
                }
                Encoding::DELTA_BINARY_PACKED
            }
        }
    }
}

impl<'a> Texts<'a> {
    fn are_ids(&self) -> bool {
        self.values(0..self.offsets.len().saturating_sub(1)).all(|value| value.len() <= ID_BYTES)
    }

    /// Those that are not null.
    fn values(&self, range: Range<usize>) -> impl Iterator<Item = &'a [u8]> {
        let present = range.filter(|index| self.nulls.is_none_or(|nulls| nulls.is_valid(*index)));
        present.map(|index| &self.data[self.offsets[index] as usize..self.offsets[index + 1] as usize])
    }

    fn lengths(&self, range: Range<usize>, lengths: &mut Vec<i64>) {
        match self.nulls {
            None => {
                let ends = &self.offsets[range.start..=range.end];
                lengths.extend(ends.windows(2).map(|ends| i64::from(ends[1] - ends[0])));
            }
            Some(_) => lengths.extend(self.values(range).map(|value| value.len() as i64)),
        }
    }

    fn put(&self, range: Range<usize>, page: &mut Vec<u8>) {
        match self.nulls {
            None => page.extend_from_slice(&self.data[self.offsets[range.start] as usize..self.offsets[range.end] as usize]),
            Some(_) => self.values(range).for_each(|value| page.extend_from_slice(value)),
        }
    }
}

/// Rows that are not written yet.
struct Rest<'a> {
    runs: &'a [Run],
    at: usize,
    /// Rows of the first run that are written.
    inside: usize,
}

impl Rest<'_> {
    /// Moves the rows of the next page into `page`; false when there are none. `bytes_before` gives those of all rows of a batch before one.
    fn take(&mut self, page: &mut Vec<Run>, bytes_before: impl Fn(usize, usize) -> usize) -> bool {
        page.clear();
        let (mut rows, mut bytes) = (0, 0);
        while let Some(run) = self.runs.get(self.at)
            && rows < PAGE_ROWS
            && bytes < PAGE_BYTES
        {
            let start = run.start + self.inside;
            let left = (run.rows - self.inside).min(PAGE_ROWS - rows);
            let bytes_of = |rows: usize| bytes_before(run.batch, start + rows) - bytes_before(run.batch, start);
            // One row more than fits, so that a row that never fits is written too.
            let taken = if bytes + bytes_of(left) <= PAGE_BYTES { left } else { rows_within(left, PAGE_BYTES - bytes, bytes_of) + 1 };
            page.push(Run { batch: run.batch, start, rows: taken });
            rows += taken;
            bytes += bytes_of(taken);
            self.inside += taken;
            if self.inside == run.rows {
                (self.at, self.inside) = (self.at + 1, 0);
            }
        }
        rows > 0
    }
}

/// The largest number below `rows` for which `bytes_of`, which rises, is within `budget`.
fn rows_within(rows: usize, budget: usize, bytes_of: impl Fn(usize) -> usize) -> usize {
    let (mut low, mut high) = (0, rows - 1);
    while low < high {
        let middle = (low + high).div_ceil(2);
        if bytes_of(middle) <= budget { low = middle } else { high = middle - 1 }
    }
    low
}

/// The smallest and largest values of the page at hand and of the pages before it.
#[derive(Default)]
struct LeafBounds {
    numbers: Option<(i64, i64)>,
    all_numbers: Option<(i64, i64)>,
    bytes: Option<(Vec<u8>, Vec<u8>)>,
    all_bytes: Option<(Vec<u8>, Vec<u8>)>,
}

impl LeafBounds {
    fn see_numbers(&mut self, numbers: &[i64]) {
        self.numbers = numbers.iter().copied().min().zip(numbers.iter().copied().max());
    }

    fn see_bytes(&mut self, value: &[u8]) {
        match &mut self.bytes {
            None => self.bytes = Some((value.to_vec(), value.to_vec())),
            Some((least, most)) => {
                let bound = if value < &least[..] {
                    least
                } else if value > &most[..] {
                    most
                } else {
                    return;
                };
                bound.clear();
                bound.extend_from_slice(value);
            }
        }
    }

    /// The bounds of the page that ends, in plain bytes.
    fn end_page(&mut self) -> Option<(Vec<u8>, Vec<u8>)> {
        if let Some((least, most)) = self.numbers.take() {
            let all = self.all_numbers.get_or_insert((least, most));
            *all = (all.0.min(least), all.1.max(most));
            return Some((least.to_le_bytes().to_vec(), most.to_le_bytes().to_vec()));
        }
        let (least, most) = self.bytes.take()?;
        let all = self.all_bytes.get_or_insert_with(|| (least.clone(), most.clone()));
        if least < all.0 {
            all.0.clone_from(&least);
        }
        if most > all.1 {
            all.1.clone_from(&most);
        }
        Some((least, most))
    }

    fn statistics(self, leaf: &Leaf<'_>, nulls: u64) -> Statistics {
        match leaf {
            Leaf::Numbers(_) => {
                let (least, most) = self.all_numbers.unzip();
                Statistics::int64(least, most, None, Some(nulls), false)
            }
            Leaf::Bytes(..) => {
                let (least, most) = self.all_bytes.unzip();
                Statistics::byte_array(least.map(ByteArray::from), most.map(ByteArray::from), None, Some(nulls), false)
            }
        }
    }
}
