//! Frames on their way out, in order. They are made where they wait, and each place is used again and again: frames
//! are large, and laying out an empty one or moving one costs as much as writing its headers.

use super::core::NicFrame;

/// A queue of frames. It grows to what has ever waited in it.
#[derive(Default)]
pub struct Outbox {
    /// A ring; what does not wait is empty.
    places: Vec<NicFrame>,
    first: usize,
    len: usize,
}

impl Outbox {
    /// Frames that wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Index of the place of the frame that comes after `n` others.
    #[inline]
    fn place(&self, n: usize) -> usize {
        let at = self.first + n;
        if at < self.places.len() {
            at
        } else {
            at - self.places.len()
        }
    }

    /// Appends an empty frame, to be made in place.
    #[inline]
    pub fn begin(&mut self) -> &mut NicFrame {
        if self.len == self.places.len() {
            self.grow();
        }
        let at = self.place(self.len);
        self.len += 1;
        &mut self.places[at]
    }

    /// Appends a frame.
    pub fn push_back(&mut self, frame: NicFrame) {
        *self.begin() = frame;
    }

    /// The last frame.
    #[inline]
    pub fn back(&self) -> Option<&NicFrame> {
        let before = self.len.checked_sub(1)?;
        self.places.get(self.place(before))
    }

    /// Takes the last frame.
    #[inline]
    pub fn pop_back(&mut self) -> Option<NicFrame> {
        self.len = self.len.checked_sub(1)?;
        let at = self.place(self.len);
        Some(self.places.get_mut(at)?.take())
    }

    /// Takes the first frame.
    #[inline]
    pub fn pop_front(&mut self) -> Option<NicFrame> {
        self.len = self.len.checked_sub(1)?;
        let next = self.place(1);
        let at = std::mem::replace(&mut self.first, next);
        Some(self.places.get_mut(at)?.take())
    }

    #[cold]
    fn grow(&mut self) {
        self.places.rotate_left(self.first);
        self.first = 0;
        let more = self.places.len().max(16);
        self.places
            .extend(std::iter::repeat_with(NicFrame::empty).take(more));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(n: usize) -> NicFrame {
        let mut frame = NicFrame::empty();
        assert!(frame.head_mut().extend(&n.to_be_bytes()));
        frame
    }

    fn number(frame: &NicFrame) -> usize {
        usize::from_be_bytes(frame.head().try_into().expect("eight bytes"))
    }

    #[test]
    fn frames_come_out_in_order_however_many_wait() {
        let mut outbox = Outbox::default();
        let (mut put, mut got) = (0, 0);
        for round in 0..50 {
            for _ in 0..round {
                outbox.push_back(frame(put));
                assert_eq!(outbox.back().map(number), Some(put));
                put += 1;
            }
            outbox.begin();
            assert_eq!(outbox.pop_back().map(|frame| frame.head().len()), Some(0));
            for _ in 0..round / 2 + 1 {
                let Some(frame) = outbox.pop_front() else {
                    break;
                };
                assert_eq!(number(&frame), got);
                got += 1;
            }
            assert_eq!(outbox.len(), put - got);
        }
        while let Some(frame) = outbox.pop_front() {
            assert_eq!(number(&frame), got);
            got += 1;
        }
        assert_eq!(got, put);
        assert!(outbox.is_empty());
        assert!(outbox.back().is_none() && outbox.pop_front().is_none());
        assert!(outbox.pop_back().is_none());
    }

    #[test]
    fn a_place_that_is_used_again_is_empty() {
        let mut outbox = Outbox::default();
        for n in 0..100 {
            let frame = outbox.begin();
            assert!(frame.head().is_empty() && frame.len_on_wire() == 0);
            assert!(frame.head_mut().extend(&[n; 60]));
            assert_eq!(
                outbox.pop_front().map(|frame| frame.len_on_wire()),
                Some(60)
            );
        }
    }
}
