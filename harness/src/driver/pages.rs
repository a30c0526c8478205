//! Supplying the device with pages: what it asks for at boot, at initialization and by events, and
//! taking all of them back.

use rocinante_firmware_cmd::mlx5::hca::{ManagePagesIn, ManagePagesOut, QueryPagesOut};
use rocinante_firmware_cmd::mlx5::opcode::Opcode;

use super::command::{self, input};
use super::error::{Error, Result};
use super::function::Function;
use super::memory::{Buffer, PAGE};
use super::{Bare, Driver};

/// QUERY_PAGES before SET_HCA_CAP.
pub const BOOT: u16 = 1;
/// QUERY_PAGES before INIT_HCA.
pub const INIT: u16 = 2;

/// `op_mod` of MANAGE_PAGES.
const GIVE: u16 = 1;
const TAKE: u16 = 2;

/// No device asks for more at once.
const MOST: usize = 1 << 16;

/// Pages taken back with one command.
const BATCH: u32 = 512;

impl<F: Function> Bare<'_, F> {
    /// Asks how many pages are wanted at this stage and gives them.
    pub fn give_wanted(&mut self, stage: u16) -> Result<()> {
        let output = self.execute(&input(Opcode::QueryPages, stage, 16), 16)?;
        let wanted = QueryPagesOut::new(&output).num_pages() as i32;
        match usize::try_from(wanted) {
            Ok(0) | Err(_) => Ok(()),
            Ok(n) => self.give(n),
        }
    }

    /// MANAGE_PAGES, give.
    pub fn give(&mut self, n: usize) -> Result<()> {
        let mut given = Vec::with_capacity(n);
        let mut give = input(Opcode::ManagePages, GIVE, ManagePagesIn::SIZE + 8 * n);
        let mut view = ManagePagesIn::new(&mut give);
        view.set_input_num_entries(n as u32);
        for index in 0..n {
            let page = self.pages.alloc(PAGE)?;
            view.pas_mut().set(index, page.iova);
            given.push(page);
        }
        self.commands
            .execute(self.function, self.pages, command::PAGE_SLOT, &give, 16)?;
        self.lent.extend(given);
        Ok(())
    }

    /// Takes everything back.
    pub fn reclaim(&mut self) -> Result<()> {
        while !self.lent.is_empty() {
            let mut take = input(Opcode::ManagePages, TAKE, ManagePagesIn::SIZE);
            ManagePagesIn::new(&mut take).set_input_num_entries(BATCH);
            let output = self.commands.execute(
                self.function,
                self.pages,
                command::PAGE_SLOT,
                &take,
                ManagePagesOut::SIZE + 8 * BATCH as usize,
            )?;
            let out = ManagePagesOut::new(&output);
            let n = out.output_num_entries() as usize;
            if n == 0 || n > BATCH as usize {
                let left = self.lent.len();
                return Err(Error::Device(format!("{n} pages back, {left} still lent")));
            }
            for iova in out.pas().iter().take(n) {
                let page = Buffer { iova, len: PAGE };
                let place = self.lent.iter().rposition(|lent| *lent == page);
                let place =
                    place.ok_or_else(|| Error::Device(format!("page {iova:#x} was not lent")))?;
                self.lent.swap_remove(place);
                self.pages.release(page);
            }
        }
        Ok(())
    }
}

impl<F: Function> Driver<F> {
    /// Answers a page request event.
    pub(super) fn give_requested(&mut self, n: i32) -> Result<()> {
        let Ok(n) = usize::try_from(n) else {
            return Ok(());
        };
        if n > MOST {
            return Err(Error::Device(format!("it asks for {n} pages at once")));
        }
        let mut bare = Bare {
            function: &mut self.function,
            pages: &mut self.pages,
            commands: &mut self.commands,
            lent: &mut self.lent,
        };
        bare.give(n)?;
        self.requested_pages += n as u64;
        Ok(())
    }
}
