//! Why guest memory could not be accessed or mapped.

use std::io;

/// What is wrong with an access to guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DmaErrorKind {
    /// No memory is mapped at a part of the range, or the range wraps around 2^64.
    NotMapped,
    /// A write to a range that the monitor mapped for reading only.
    ReadOnly,
    /// An atomic access whose address is not a multiple of its size.
    Unaligned,
}

/// An access to guest memory that did not take place. Nothing was transferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("guest memory {iova:#x}+{len:#x}: {kind:?}")]
pub struct DmaError {
    /// Start of the access, IOVA.
    pub iova: u64,
    /// Length of the access in bytes.
    pub len: usize,
    /// What is wrong with it.
    pub kind: DmaErrorKind,
}

impl DmaError {
    pub(crate) fn new(iova: u64, len: usize, kind: DmaErrorKind) -> Self {
        Self { iova, len, kind }
    }
}

/// A mapping that the monitor asked for and that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// The range is empty, or it ends beyond 2^64.
    #[error("mapping {iova:#x}+{len:#x}: not a range of addresses")]
    BadRange {
        /// Start of the mapping, IOVA.
        iova: u64,
        /// Length of the mapping in bytes.
        len: u64,
    },
    /// The file ends before the mapping does: an access would raise SIGBUS.
    #[error(
        "mapping {iova:#x}+{len:#x}: the file has {size:#x} bytes, the mapping starts at {offset:#x}"
    )]
    PastEndOfFile {
        /// Start of the mapping, IOVA.
        iova: u64,
        /// Length of the mapping in bytes.
        len: u64,
        /// Start of the mapping in the file.
        offset: u64,
        /// Size of the file in bytes.
        size: u64,
    },
    /// There are [`crate::MAX_REGIONS`] regions already.
    #[error("mapping {iova:#x}+{len:#x}: too many regions")]
    TooManyRegions {
        /// Start of the mapping, IOVA.
        iova: u64,
        /// Length of the mapping in bytes.
        len: u64,
    },
    /// The operating system refused.
    #[error("mapping {iova:#x}+{len:#x}: {source}")]
    Os {
        /// Start of the mapping, IOVA.
        iova: u64,
        /// Length of the mapping in bytes.
        len: u64,
        /// Its reason.
        source: io::Error,
    },
}
