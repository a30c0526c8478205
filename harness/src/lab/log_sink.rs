//! Where the program's log goes: to standard error, until a run names a file for it.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

static FILE: Mutex<Option<File>> = Mutex::new(None);

fn file() -> MutexGuard<'static, Option<File>> {
    FILE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on the log goes to the file at `path`, which is emptied.
pub fn log_to(path: &Path) -> io::Result<()> {
    *file() = Some(File::create(path)?);
    Ok(())
}

/// A sink for a logger. All of them are the same.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogSink;

impl Write for LogSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut *file() {
            Some(file) => file.write(bytes),
            None => io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut *file() {
            Some(file) => file.flush(),
            None => io::stderr().flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_logged_is_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        log_to(&path).unwrap();
        LogSink.write_all(b"a line\n").unwrap();
        *file() = None;
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a line\n");
    }
}
