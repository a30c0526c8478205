//! Striding receive queues: a WQE is one large buffer in strides of one size, which packets fill
//! from front to back. Source: reference of the interface, "Striding RQ"; Linux
//! `mlx5e_handle_rx_cqe_mpwrq`. Knows which strides a packet gets, not what is written there.

use rocinante_dma::{DmaError, MemoryMap};

use crate::mlx5::rq::{ReceiveQueue, Taken};
use crate::mlx5::wqe::DataSeg;

/// log2 of the strides in a WQE: from 8 on with `ext_stride_num_range`.
pub const LOG_STRIDES: std::ops::RangeInclusive<u8> = 3..=16;

/// log2 of the bytes of a stride.
pub const LOG_STRIDE_SIZE: std::ops::RangeInclusive<u8> = 6..=13;

/// What a field of the work queue context counts from: `log_wqe_num_of_strides`.
const LOG_STRIDES_BASE: i8 = 9;

/// How a WQE is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strides {
    /// log2 of their number.
    pub log_number: u8,
    /// log2 of the bytes of one.
    pub log_size: u8,
    /// `two_byte_shift_en`: two bytes are left free in front of each packet.
    pub shift: bool,
}

impl Strides {
    /// From `log_wqe_num_of_strides`, a signed number of four bits, and `log_wqe_stride_size`.
    /// `None`: out of range.
    pub fn from_fields(number: u8, size: u8, shift: bool) -> Option<Strides> {
        // Sign extension of four bits.
        let number = ((number << 4) as i8) >> 4;
        let log_number = u8::try_from(number + LOG_STRIDES_BASE).ok()?;
        let log_size = size.checked_add(*LOG_STRIDE_SIZE.start())?;
        (LOG_STRIDES.contains(&log_number) && LOG_STRIDE_SIZE.contains(&log_size)).then_some(
            Strides {
                log_number,
                log_size,
                shift,
            },
        )
    }

    fn number(self) -> u32 {
        1 << self.log_number
    }
}

/// Strides of one WQE that one completion tells of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Index of the WQE.
    pub wqe_id: u16,
    /// The first stride.
    pub first: u16,
    /// How many.
    pub strides: u16,
    /// Where in the WQE's buffer the packet begins.
    pub offset: u64,
    /// Bytes that the WQE's scatter list can take.
    pub capacity: u64,
}

/// What a packet gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// These strides.
    Strides(Span),
    /// Nothing yet: what is left of the WQE is too little and is given up. Ask again.
    Filler(Span),
    /// No WQE is posted.
    Empty,
    /// It is larger than a whole WQE, of which this one was taken.
    TooLong(Span),
}

/// A striding receive queue.
pub struct Striding {
    /// Its WQEs.
    pub queue: ReceiveQueue,
    strides: Strides,
    /// The WQE being filled and its strides in use.
    open: Option<(Taken, u32)>,
    segs: Vec<DataSeg>,
}

impl Striding {
    /// With no WQE taken.
    pub fn new(queue: ReceiveQueue, strides: Strides) -> Striding {
        Striding {
            queue,
            strides,
            open: None,
            segs: Vec::new(),
        }
    }

    /// Empties it, as a reset of the queue does.
    pub fn reset(&mut self) {
        self.queue.reset();
        self.open = None;
    }

    /// Scatter list of the WQE that the last answer was about.
    pub fn segs(&self) -> &[DataSeg] {
        &self.segs
    }

    /// Strides for `len` bytes.
    pub fn reserve(&mut self, mem: &MemoryMap, len: usize) -> Result<Place, DmaError> {
        let Some((taken, used)) = self.next(mem)? else {
            return Ok(Place::Empty);
        };
        let number = self.strides.number();
        let shift = if self.strides.shift { 2 } else { 0 };
        let needed = (len + shift).div_ceil(1 << self.strides.log_size).max(1);
        let span = |strides: u32| Span {
            wqe_id: taken.wqe_counter,
            first: used as u16,
            strides: strides as u16,
            offset: (u64::from(used) << self.strides.log_size) + shift as u64,
            capacity: taken.capacity,
        };
        let left = number - used;
        if needed > number as usize {
            return Ok(Place::TooLong(span(0)));
        }
        let needed = needed as u32;
        if needed > left {
            self.open = None;
            return Ok(Place::Filler(span(left)));
        }
        self.open = (needed < left).then_some((taken, used + needed));
        Ok(Place::Strides(span(needed)))
    }

    /// Takes a WQE that will not be filled: its index, and its first stride that was not in use.
    pub fn abandon(&mut self, mem: &MemoryMap) -> Result<Option<(u16, u16)>, DmaError> {
        let next = self.next(mem)?;
        self.open = None;
        Ok(next.map(|(taken, used)| (taken.wqe_counter, used as u16)))
    }

    /// Leaves the WQE being filled as it is: its completions have been written.
    pub fn give_up(&mut self) {
        self.open = None;
    }

    /// Whether a WQE is partly filled.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    fn next(&mut self, mem: &MemoryMap) -> Result<Option<(Taken, u32)>, DmaError> {
        if self.open.is_none() {
            self.open = self
                .queue
                .take(mem, &mut self.segs)?
                .map(|taken| (taken, 0));
        }
        Ok(self.open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_small_signed_numbers() {
        let strides = |number, size| {
            Strides::from_fields(number, size, false).map(|s| (s.log_number, s.log_size))
        };
        // Linux: 128 strides of 2 KiB, 4096 of 64 bytes.
        assert_eq!(strides(0xe, 5), Some((7, 11)));
        assert_eq!(strides(3, 0), Some((12, 6)));
        assert_eq!(strides(7, 7), Some((16, 13)));
        assert_eq!(strides(0xa, 0), Some((3, 6)));
        assert_eq!(strides(9, 0), None);
        assert_eq!(strides(8, 0), None);
        assert_eq!(strides(0, 8), None);
    }
}
