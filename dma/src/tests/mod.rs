//! What a device sees of memory while a monitor maps and unmaps it.

mod access;
mod gather;
mod model;
mod space;

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::{DmaError, DmaErrorKind};

const PAGE: u64 = 4096;

fn file(pages: u64) -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(pages * PAGE).unwrap();
    file
}

/// A file whose 32-bit words are numbered.
fn numbered(pages: u64) -> File {
    let file = file(pages);
    let bytes: Vec<u8> = (0..(pages * PAGE / 4) as u32)
        .flat_map(u32::to_be_bytes)
        .collect();
    file.write_all_at(&bytes, 0).unwrap();
    file
}

fn clone(file: &File) -> Option<File> {
    Some(file.try_clone().unwrap())
}

fn error(iova: u64, len: usize, kind: DmaErrorKind) -> DmaError {
    DmaError { iova, len, kind }
}
