use std::sync::{Mutex, PoisonError};

use super::*;

/// A terminal that can be looked at.
#[derive(Clone, Default)]
struct Screen(Arc<Mutex<Vec<u8>>>);

impl Screen {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()).unwrap()
    }
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn long_work_says_that_it_goes_on_and_leaves_nothing_behind() {
    let screen = Screen::default();
    let work = async {
        while screen.text().matches("asking for").count() < 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        7
    };
    assert_eq!(with_progress(work, Duration::from_millis(2), screen.clone()).await, 7);
    assert!(screen.text().ends_with("\r\x1b[K"), "{:?}", screen.text());

    let silent = Screen::default();
    with_progress(async {}, Duration::from_secs(3600), silent.clone()).await;
    assert_eq!(silent.text(), "");
}

#[test]
fn tables_and_formats_are_written_from_the_same_answer() {
    let answer = br#"{"columns":["a","b"],"rows":[["x",1],[null,22]]}"#;
    let written = |output| {
        let mut out = Vec::new();
        write_answer(&mut out, output, answer).unwrap();
        String::from_utf8(out).unwrap()
    };
    assert_eq!(written(Output::Table), "a  b\n-  --\nx  1\n   22\n(2 rows)\n");
    assert_eq!(written(Output::Json), format!("{}\n", std::str::from_utf8(answer).unwrap()));
    assert_eq!(written(Output::Csv).as_bytes(), answer);
}
