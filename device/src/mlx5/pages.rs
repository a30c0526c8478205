//! Guest pages that the driver lent to the device.
//!
//! An adapter without memory of its own keeps its contexts in such pages. This one has the host's
//! memory and never touches them, but it asks for them, counts them and gives them back as an adapter
//! does, so that a driver that forgets a page is found out.

use std::collections::BTreeSet;

/// Pages asked for before SET_HCA_CAP.
pub const BOOT_PAGES: u64 = 4;

/// Pages asked for before INIT_HCA.
pub const INIT_PAGES: u64 = 16;

/// Pages that may be lent, 4 GiB: bounds what a driver that gives without end costs.
pub const MAX_PAGES: usize = 1 << 20;

/// Regular pages are asked for this many at a time.
const BATCH: u64 = 8;

/// Why pages are not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GiveError {
    /// Not at a page boundary.
    Unaligned(u64),
    /// Lent already, or twice in the same command.
    Twice(u64),
    /// More than the device can use.
    TooMany,
}

/// Which pages the device holds and how many it has asked for.
#[derive(Debug, Default)]
pub struct Pages {
    owned: BTreeSet<u64>,
    /// Regular pages asked for in events and neither given nor refused yet.
    requested: u64,
    /// The driver refused regular pages when this many were wanted: asks again only for more.
    refused_at: u64,
}

impl Pages {
    /// Pages the device holds.
    pub fn owned(&self) -> usize {
        self.owned.len()
    }

    /// Takes `pages` over, all of them or none.
    pub fn give(&mut self, pages: impl Iterator<Item = u64> + Clone) -> Result<usize, GiveError> {
        let mut taken = 0;
        for page in pages.clone() {
            let fault = if page & 0xfff != 0 {
                GiveError::Unaligned(page)
            } else if self.owned.len() >= MAX_PAGES {
                GiveError::TooMany
            } else if !self.owned.insert(page) {
                GiveError::Twice(page)
            } else {
                taken += 1;
                continue;
            };
            for page in pages.take(taken) {
                self.owned.remove(&page);
            }
            return Err(fault);
        }
        self.requested = self.requested.saturating_sub(taken as u64);
        Ok(taken)
    }

    /// The driver cannot give what it was asked for.
    pub fn refuse(&mut self) {
        self.refused_at = (self.owned.len() as u64).saturating_add(self.requested);
        self.requested = 0;
    }

    /// Gives back at most `asked` pages, the highest addresses first.
    pub fn take(&mut self, asked: usize) -> Vec<u64> {
        let mut pages = Vec::with_capacity(asked.min(self.owned.len()));
        while pages.len() < asked {
            let Some(page) = self.owned.pop_last() else {
                break;
            };
            pages.push(page);
        }
        pages
    }

    /// Pages still wanted before SET_HCA_CAP.
    pub fn boot_shortage(&self) -> u64 {
        BOOT_PAGES.saturating_sub(self.owned.len() as u64)
    }

    /// Pages still wanted before INIT_HCA.
    pub fn init_shortage(&self) -> u64 {
        (BOOT_PAGES + INIT_PAGES).saturating_sub(self.owned.len() as u64)
    }

    /// Pages still wanted for objects that fill `regular` pages.
    pub fn regular_shortage(&self, regular: u64) -> u64 {
        (BOOT_PAGES + INIT_PAGES + regular).saturating_sub(self.owned.len() as u64)
    }

    /// How many pages to ask for now that objects fill `regular` pages, if any.
    pub fn request(&mut self, regular: u64) -> Option<u64> {
        let shortage = self.regular_shortage(regular);
        let wanted = self.owned.len() as u64 + shortage;
        if shortage <= self.requested || wanted <= self.refused_at {
            return None;
        }
        let ask = (shortage - self.requested).next_multiple_of(BATCH);
        self.requested += ask;
        Some(ask)
    }

    /// Forgets all pages; returns how many there were.
    pub fn clear(&mut self) -> usize {
        std::mem::take(self).owned.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(pages: &[u64]) -> impl Iterator<Item = u64> + Clone {
        pages.iter().copied()
    }

    #[test]
    fn every_page_given_comes_back_once() {
        let mut pages = Pages::default();
        assert_eq!(pages.give(list(&[0x1000, 0x5000, 0x3000])), Ok(3));
        assert_eq!(pages.take(2), [0x5000, 0x3000]);
        assert_eq!(pages.take(2), [0x1000]);
        assert_eq!(pages.take(2), [0u64; 0]);
    }

    #[test]
    fn a_bad_page_refuses_the_whole_list() {
        let mut pages = Pages::default();
        assert_eq!(pages.give(list(&[0x1000])), Ok(1));
        assert_eq!(
            pages.give(list(&[0x2000, 0x1000])),
            Err(GiveError::Twice(0x1000))
        );
        assert_eq!(
            pages.give(list(&[0x2000, 0x2000])),
            Err(GiveError::Twice(0x2000))
        );
        assert_eq!(
            pages.give(list(&[0x2000, 0x3004])),
            Err(GiveError::Unaligned(0x3004))
        );
        assert_eq!(pages.take(9), [0x1000]);
    }

    #[test]
    fn the_number_of_pages_is_bounded() {
        let mut pages = Pages::default();
        let all = (0..MAX_PAGES as u64).map(|n| n << 12);
        assert_eq!(pages.give(all), Ok(MAX_PAGES));
        assert_eq!(pages.give(list(&[u64::MAX << 12])), Err(GiveError::TooMany));
        assert_eq!(pages.owned(), MAX_PAGES);
    }

    #[test]
    fn requests_follow_demand_and_stop_at_a_refusal() {
        let mut pages = Pages::default();
        assert_eq!((pages.boot_shortage(), pages.init_shortage()), (4, 20));
        pages.give((1..=20).map(|n| n << 12)).unwrap();
        assert_eq!((pages.boot_shortage(), pages.init_shortage()), (0, 0));
        assert_eq!(pages.request(0), None);
        assert_eq!(pages.request(1), Some(8));
        assert_eq!(pages.request(8), None);
        assert_eq!(pages.request(9), Some(8));
        pages.give((21..=36).map(|n| n << 12)).unwrap();
        assert_eq!(pages.request(16), None);
        assert_eq!(pages.request(17), Some(8));
        pages.refuse();
        assert_eq!(pages.request(24), None);
        assert_eq!(pages.request(25), Some(16));
    }
}
