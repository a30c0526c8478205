//! What completion, send and receive queues have in common: objects by number, page lists.

use super::error::{Error, Result};

/// Objects by number. Numbers are small and the device uses them again.
pub struct Numbered<T>(Vec<Option<Box<T>>>);

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Numbered(Vec::new())
    }
}

impl<T> Numbered<T> {
    pub fn insert(&mut self, number: u32, object: T) {
        let index = number as usize;
        if self.0.len() <= index {
            self.0.resize_with(index + 1, || None);
        }
        self.0[index] = Some(Box::new(object));
    }

    #[inline]
    pub fn get_mut(&mut self, number: u32) -> Result<&mut T> {
        self.0
            .get_mut(number as usize)
            .and_then(|object| object.as_deref_mut())
            .ok_or(Error::NoObject(number))
    }

    #[inline]
    pub fn get(&self, number: u32) -> Result<&T> {
        self.0
            .get(number as usize)
            .and_then(|object| object.as_deref())
            .ok_or(Error::NoObject(number))
    }

    pub fn remove(&mut self, number: u32) -> Result<Box<T>> {
        self.0
            .get_mut(number as usize)
            .and_then(Option::take)
            .ok_or(Error::NoObject(number))
    }
}
