//! The command queue in guest memory: entries, mailbox chains, tokens, signatures, ownership.
//!
//! Knows how the bytes of a command come and go; knows neither what they mean nor when a doorbell was rung.
//! Source of the formats: `cmd_queue_entry` of `mlx5_ifc.h`, `struct mlx5_cmd_layout` and `mlx5_cmd_prot_block` of Linux.

use std::sync::atomic::Ordering;

use rocinante_dma::{DmaError, MemoryMap};

use super::command::Input;
use super::status::DeliveryStatus;
use crate::layout::layout;

/// log2 of the number of entries that the initialization segment announces.
pub const LOG_SIZE: u8 = 5;
/// log2 of the distance between entries, in bytes.
pub const LOG_STRIDE: u8 = 6;
/// Number of entries.
pub const SLOTS: u8 = 1 << LOG_SIZE;
/// The entry both drivers keep for MANAGE_PAGES, so that it is never stuck behind a command that waits for pages.
pub const PAGE_SLOT: u8 = SLOTS - 1;

/// Longest input taken, in bytes. The longest a driver sends is about 8 MiB, CREATE_MKEY with a page list.
pub const MAX_INPUT: usize = 32 << 20;

/// Capacity of the input buffer that is kept from one command to the next.
const KEPT_INPUT: usize = 1 << 20;

/// Opcode and op_mod, or status and syndrome: no command is shorter.
const HEADER: usize = 8;
/// Bytes of input and of output within the entry.
const INLINE: usize = 16;
const ENTRY: usize = 64;
const ENTRY_OUTPUT: u64 = 0x20;
const ENTRY_TOKEN: usize = 0x3c;
const ENTRY_SIGNATURE: usize = 0x3d;
const ENTRY_STATUS: usize = 0x3f;
/// Bytes of a message within a mailbox block, which are followed by 64 bytes of control.
const BLOCK_DATA: usize = 512;
const BLOCK: usize = 576;
const BLOCK_TOKEN: usize = 0x23d;
const BLOCK_CTRL_SIGNATURE: usize = 0x23e;
const BLOCK_SIGNATURE: usize = 0x23f;
/// Transport type PCIe.
const TYPE_PCI: u8 = 7;
/// Pointers to blocks have this many low bits to spare.
const BLOCK_ALIGN: u64 = 512;

layout! {
    /// An entry of the queue.
    pub context Entry[0x40] {
        0x00[31:24] type_;
        0x04 input_length;
        0x08 input_mailbox_pointer: u64;
        0x10 command_input_inline_data: [u8; 0x10];
        0x20 command_output_inline_data: [u8; 0x10];
        0x30 output_mailbox_pointer: u64;
        0x38 output_length;
        0x3c[31:24] token;
        0x3c[23:16] signature;
        0x3c[7:1] status;
        0x3c[0] ownership;
    }

    /// A mailbox block.
    pub context Block[0x240] {
        0x00 data: [u8; 0x200];
        0x230 next_pointer: u64;
        0x238 block_number;
        0x23c[23:16] token;
        0x23c[15:8] ctrl_signature;
        0x23c[7:0] signature;
    }
}

/// What is wrong with an answer that firmware gives by mistake; see [`CommandQueue::complete_wrongly`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wrong {
    /// The delivery status is this one.
    pub delivery: Option<DeliveryStatus>,
    /// The token of the entry and of the output's blocks has these bits inverted.
    pub token: u8,
    /// The signature of the entry has these bits inverted.
    pub signature: u8,
    /// The entry stays owned by the device.
    pub ownership: bool,
}

/// The command queue of one function.
#[derive(Clone, Copy, Debug)]
pub struct CommandQueue {
    base: u64,
    checksum: bool,
}

/// A command that was fetched and is to be completed, without its input.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Entry it came from.
    pub slot: u8,
    /// See [`super::opcode::Opcode::from_u16`].
    pub opcode: u16,
    /// Operation modifier.
    pub op_mod: u16,
    /// Bytes of input.
    pub input_len: u32,
    /// Bytes the driver has room for.
    pub output_len: u32,
    output_mailbox: u64,
    token: u8,
    /// XOR of the bytes of the entry that do not change.
    constant: u8,
}

/// Why there is no command in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// There is no such slot, or its entry belongs to the driver: nothing to do.
    #[error("command slot {0} is not owned by the device")]
    NotOwned(u8),
    /// The entry itself is not accessible: nothing can be done.
    #[error("command slot {slot}: {error}")]
    Unreachable {
        /// The slot.
        slot: u8,
        /// Why.
        error: DmaError,
    },
    /// The entry or its mailboxes are malformed: to be [rejected](CommandQueue::reject).
    #[error("command slot {slot} is malformed: {status:?}")]
    Malformed {
        /// The slot.
        slot: u8,
        /// How.
        status: DeliveryStatus,
    },
}

impl CommandQueue {
    /// The queue at `base`, an IOVA, of which the low 12 bits are ignored.
    #[must_use]
    pub const fn new(base: u64) -> Self {
        CommandQueue {
            base: base & !0xfff,
            checksum: false,
        }
    }

    /// IOVA of the first entry.
    #[must_use]
    pub const fn base(&self) -> u64 {
        self.base
    }

    /// Whether mailbox blocks are signed, both ways: `cmdif_checksum` of SET_HCA_CAP. All known drivers switch it off
    /// before they have sent a signed block.
    pub fn set_checksum(&mut self, enabled: bool) {
        self.checksum = enabled;
    }

    /// Take the command in `slot`: its input goes to `input`, whose allocation is reused.
    ///
    /// # Errors
    ///
    /// If there is none, or it cannot be had. In case of [`FetchError::Malformed`] the driver waits for an answer.
    pub fn fetch(
        &self,
        map: &MemoryMap,
        slot: u8,
        input: &mut Vec<u8>,
    ) -> Result<Request, FetchError> {
        input.clear();
        input.shrink_to(KEPT_INPUT);
        if slot >= SLOTS {
            return Err(FetchError::NotOwned(slot));
        }
        let at = self.entry_address(slot);
        let unreachable = |error| FetchError::Unreachable { slot, error };
        let status = map
            .load_u8(at + ENTRY_STATUS as u64, Ordering::Acquire)
            .map_err(unreachable)?;
        if status & 1 == 0 {
            return Err(FetchError::NotOwned(slot));
        }
        let mut bytes = [0; ENTRY];
        map.read(at, &mut bytes).map_err(unreachable)?;
        self.take(map, slot, &bytes, input)
            .map_err(|status| FetchError::Malformed { slot, status })
    }

    fn take(
        &self,
        map: &MemoryMap,
        slot: u8,
        bytes: &[u8; ENTRY],
        input: &mut Vec<u8>,
    ) -> Result<Request, DeliveryStatus> {
        let entry = Entry::new(bytes);
        if entry.type_() != TYPE_PCI {
            return Err(DeliveryStatus::Type);
        }
        // The kernel drivers always sign entries. Zero, of which a wrong signature has a chance of one in 256, is that
        // of a user-space driver that does not.
        if entry.signature() != 0 && xor(bytes) != 0xff {
            return Err(DeliveryStatus::Signature);
        }
        let input_len = entry.input_length() as usize;
        if !(HEADER..=MAX_INPUT).contains(&input_len) {
            return Err(DeliveryStatus::InputLength);
        }
        // Linux says 12 where its declaration of an output ends early (ENABLE_HCA).
        if (entry.output_length() as usize) < HEADER {
            return Err(DeliveryStatus::OutputLength);
        }
        input.extend_from_slice(&entry.command_input_inline_data());
        self.gather(
            map,
            entry.input_mailbox_pointer(),
            entry.token(),
            input_len,
            input,
        )?;

        let header = Input::new(&*input);
        Ok(Request {
            slot,
            opcode: header.opcode(),
            op_mod: header.op_mod(),
            input_len: entry.input_length(),
            output_len: entry.output_length(),
            output_mailbox: entry.output_mailbox_pointer(),
            token: entry.token(),
            constant: xor(bytes)
                ^ xor(&entry.command_output_inline_data())
                ^ bytes[ENTRY_SIGNATURE]
                ^ bytes[ENTRY_STATUS],
        })
    }

    /// Append blocks to `input` until it has `len` bytes. Each block has to be there, so a false `len` costs no memory.
    fn gather(
        &self,
        map: &MemoryMap,
        mut pointer: u64,
        token: u8,
        len: usize,
        input: &mut Vec<u8>,
    ) -> Result<(), DeliveryStatus> {
        let mut number = 0;
        while input.len() < len {
            if pointer == 0 {
                return Err(DeliveryStatus::InputLength);
            }
            let mut bytes = [0; BLOCK];
            let block = self.block(map, pointer, token, number, &mut bytes);
            let next = block.map_err(|status| status.unwrap_or(DeliveryStatus::InputPointer))?;
            if self.checksum && !signed(&bytes) {
                return Err(DeliveryStatus::Signature);
            }
            input.extend_from_slice(&bytes[..BLOCK_DATA.min(len - input.len())]);
            pointer = next;
            number += 1;
        }
        Ok(())
    }

    /// Read a block and check that it is number `number` of the chain of `token`; where the next one is. The error is
    /// `None` if there is no block there.
    fn block(
        &self,
        map: &MemoryMap,
        pointer: u64,
        token: u8,
        number: u32,
        bytes: &mut [u8; BLOCK],
    ) -> Result<u64, Option<DeliveryStatus>> {
        if !pointer.is_multiple_of(BLOCK_ALIGN) || map.read(pointer, bytes).is_err() {
            return Err(None);
        }
        let block = Block::new(&*bytes);
        if block.token() != token {
            return Err(Some(DeliveryStatus::Token));
        }
        if block.block_number() != number {
            return Err(Some(DeliveryStatus::BlockNumber));
        }
        Ok(block.next_pointer())
    }

    /// Hand the entry back to the driver with `output`, or as much of it as there is room for. What became of it: the
    /// output may turn out to have nowhere to go.
    ///
    /// # Errors
    ///
    /// If the entry itself cannot be written any more.
    pub fn complete(
        &self,
        map: &MemoryMap,
        request: &Request,
        output: &[u8],
    ) -> Result<DeliveryStatus, DmaError> {
        let output = &output[..output.len().min(request.output_len as usize)];
        let (head, tail) = output.split_at(INLINE.min(output.len()));
        let status = match self.scatter(map, request, tail) {
            Ok(()) => DeliveryStatus::Ok,
            Err(status) => status,
        };
        let mut inline = [0; INLINE];
        inline[..head.len()].copy_from_slice(head);
        let at = self.entry_address(request.slot);
        map.write(at + ENTRY_OUTPUT, &inline)?;
        self.hand_back(map, request.slot, request.constant ^ xor(&inline), status)?;
        Ok(status)
    }

    /// As [`complete`](Self::complete), but with mistakes.
    ///
    /// # Errors
    ///
    /// If the entry itself cannot be written any more.
    pub fn complete_wrongly(
        &self,
        map: &MemoryMap,
        request: &Request,
        output: &[u8],
        wrong: &Wrong,
    ) -> Result<DeliveryStatus, DmaError> {
        let at = self.entry_address(request.slot);
        if wrong.token != 0 {
            let token = request.token ^ wrong.token;
            map.write(at + ENTRY_TOKEN as u64, &[token])?;
        }
        let output = &output[..output.len().min(request.output_len as usize)];
        let (head, tail) = output.split_at(INLINE.min(output.len()));
        let status = match self.scatter(map, request, tail) {
            Ok(()) => DeliveryStatus::Ok,
            Err(status) => status,
        };
        if wrong.token != 0 {
            self.retoken(map, request, tail.len(), wrong.token);
        }
        let mut inline = [0; INLINE];
        inline[..head.len()].copy_from_slice(head);
        map.write(at + ENTRY_OUTPUT, &inline)?;
        let status = wrong.delivery.unwrap_or(status);
        if !wrong.ownership {
            // The signature is the complement of the sum of all other bytes, of which the token is one.
            let others = request.constant ^ xor(&inline) ^ wrong.token ^ wrong.signature;
            self.hand_back(map, request.slot, others, status)?;
        }
        Ok(status)
    }

    /// Inverts bits of the token of the blocks that hold `len` bytes of output.
    fn retoken(&self, map: &MemoryMap, request: &Request, len: usize, bits: u8) {
        let mut pointer = request.output_mailbox;
        for number in 0..len.div_ceil(BLOCK_DATA) as u32 {
            let mut bytes = [0; BLOCK];
            let block = self.block(map, pointer, request.token, number, &mut bytes);
            let Ok(next) = block else { return };
            let token = [request.token ^ bits];
            if map.write(pointer + BLOCK_TOKEN as u64, &token).is_err() {
                return;
            }
            pointer = next;
        }
    }

    fn scatter(
        &self,
        map: &MemoryMap,
        request: &Request,
        output: &[u8],
    ) -> Result<(), DeliveryStatus> {
        let mut pointer = request.output_mailbox;
        for (number, data) in (0..).zip(output.chunks(BLOCK_DATA)) {
            if pointer == 0 {
                return Err(DeliveryStatus::OutputLength);
            }
            let mut bytes = [0; BLOCK];
            let block = self.block(map, pointer, request.token, number, &mut bytes);
            let next = block.map_err(|status| status.unwrap_or(DeliveryStatus::OutputPointer))?;
            let written = if self.checksum {
                bytes[..data.len()].copy_from_slice(data);
                sign(&mut bytes);
                map.write(pointer, &bytes)
            } else {
                map.write(pointer, data)
            };
            written.map_err(|_| DeliveryStatus::OutputPointer)?;
            pointer = next;
        }
        Ok(())
    }

    /// Hand a malformed entry back to the driver.
    ///
    /// # Errors
    ///
    /// If the entry cannot be accessed any more.
    pub fn reject(
        &self,
        map: &MemoryMap,
        slot: u8,
        status: DeliveryStatus,
    ) -> Result<(), DmaError> {
        let mut bytes = [0; ENTRY];
        map.read(self.entry_address(slot), &mut bytes)?;
        let constant = xor(&bytes) ^ bytes[ENTRY_SIGNATURE] ^ bytes[ENTRY_STATUS];
        self.hand_back(map, slot, constant, status)
    }

    fn hand_back(
        &self,
        map: &MemoryMap,
        slot: u8,
        others: u8,
        status: DeliveryStatus,
    ) -> Result<(), DmaError> {
        let at = self.entry_address(slot);
        let status = status.code() << 1;
        map.write(at + ENTRY_SIGNATURE as u64, &[!(others ^ status)])?;
        map.store_u8(at + ENTRY_STATUS as u64, status, Ordering::Release)
    }

    fn entry_address(&self, slot: u8) -> u64 {
        // The base is a multiple of 4096 and a slot is below 64: no overflow.
        self.base + (u64::from(slot % SLOTS) << LOG_STRIDE)
    }
}

fn xor(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum ^ byte)
}

fn signed(block: &[u8; BLOCK]) -> bool {
    xor(&block[BLOCK_DATA..=BLOCK_CTRL_SIGNATURE]) == 0xff && xor(block) == 0xff
}

fn sign(block: &mut [u8; BLOCK]) {
    block[BLOCK_CTRL_SIGNATURE] = !xor(&block[BLOCK_DATA..BLOCK_CTRL_SIGNATURE]);
    block[BLOCK_SIGNATURE] = !xor(&block[..BLOCK_SIGNATURE]);
}

#[cfg(test)]
mod tests;
