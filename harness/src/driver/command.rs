//! The driver's side of the command queue: entries, mailboxes, signatures, waiting.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rocinante_dma::MemoryMap;
use rocinante_firmware_cmd::mlx5::command::{Input, Output};
use rocinante_firmware_cmd::mlx5::opcode::Opcode;
use rocinante_firmware_cmd::mlx5::queue::{Block, Entry};
use rocinante_firmware_cmd::mlx5::status::Status;

use super::error::{Error, Result};
use super::function::Function;
use super::memory::{Buffer, PAGE, Pages};

/// Command doorbell in the initialization segment.
const DOORBELL: u64 = 0x18;

/// Longest wait for a command; drivers wait a minute.
const PATIENCE: Duration = Duration::from_secs(10);

const ENTRY: usize = 64;
const BLOCK: u64 = 576;
/// Distance between mailbox blocks, which are aligned to 512 bytes.
const BLOCK_STRIDE: u64 = 1024;
const BLOCK_DATA: usize = 512;
const INLINE: usize = 16;

/// Slots for ordinary commands; MANAGE_PAGES has the last one.
pub const SLOT: u8 = 0;
/// The slot of MANAGE_PAGES.
pub const PAGE_SLOT: u8 = 31;

/// The command queue.
pub struct Commands {
    page: Buffer,
    blocks: Vec<u64>,
    block_pages: Vec<Buffer>,
    token: u8,
}

impl Commands {
    /// An empty queue.
    pub fn new(pages: &mut Pages) -> Result<Commands> {
        Ok(Commands {
            page: pages.zeroed(PAGE)?,
            blocks: Vec::new(),
            block_pages: Vec::new(),
            token: 0,
        })
    }

    /// Bus address of the queue.
    pub fn base(&self) -> u64 {
        self.page.iova
    }

    /// Gives its memory back.
    pub fn release(self, pages: &mut Pages) {
        pages.release(self.page);
        for page in self.block_pages {
            pages.release(page);
        }
    }

    /// Executes one command, input with header, and returns `output_len` bytes of output.
    pub fn execute<F: Function>(
        &mut self,
        function: &mut F,
        pages: &mut Pages,
        slot: u8,
        input: &[u8],
        output_len: usize,
    ) -> Result<Vec<u8>> {
        let code = Input::new(input).opcode();
        let opcode = Opcode::from_u16(code)
            .ok_or_else(|| Error::Device(format!("{code:#x} is no opcode")))?;
        self.token = self.token.wrapping_add(1).max(1);
        let inputs = input.len().saturating_sub(INLINE).div_ceil(BLOCK_DATA);
        let outputs = output_len.saturating_sub(INLINE).div_ceil(BLOCK_DATA);
        while self.blocks.len() < inputs + outputs {
            let page = pages.alloc(16 * PAGE)?;
            self.block_pages.push(page);
            let n = page.len / BLOCK_STRIDE;
            self.blocks
                .extend((0..n).map(|n| page.iova + n * BLOCK_STRIDE));
        }
        let (in_chain, rest) = self.blocks.split_at(inputs);
        let out_chain = &rest[..outputs];
        let map = function.memory();
        let tail = input.get(INLINE..).unwrap_or(&[]);
        write_chain(map, in_chain, self.token, tail)?;
        write_chain(map, out_chain, self.token, &[])?;

        let mut entry = [0; ENTRY];
        let mut view = Entry::new(&mut entry);
        let mut inline = [0; INLINE];
        let n = input.len().min(INLINE);
        inline[..n].copy_from_slice(&input[..n]);
        view.set_type_(7)
            .set_input_length(input.len() as u32)
            .set_input_mailbox_pointer(in_chain.first().copied().unwrap_or(0))
            .set_command_input_inline_data(&inline)
            .set_output_mailbox_pointer(out_chain.first().copied().unwrap_or(0))
            .set_output_length(output_len as u32)
            .set_token(self.token)
            .set_ownership(true);
        let signature = !xor(view.as_bytes());
        view.set_signature(signature);
        let at = self.page.iova + u64::from(slot) * ENTRY as u64;
        map.write(at, &entry[..ENTRY - 1])?;
        map.store_u8(at + 63, entry[ENTRY - 1], Ordering::Release)?;
        function.store(DOORBELL, &(1u32 << slot).to_be_bytes())?;

        let deadline = Instant::now() + PATIENCE;
        while function.memory().load_u8(at + 63, Ordering::Acquire)? & 1 != 0 {
            if !function.wait() || Instant::now() > deadline {
                return Err(Error::Timeout(opcode));
            }
        }
        let map = function.memory();
        map.read(at, &mut entry)?;
        if xor(&entry) != 0xff {
            return Err(Error::Signature(opcode));
        }
        let view = Entry::new(&entry);
        if view.status() != 0 {
            let status = view.status();
            return Err(Error::Delivery { opcode, status });
        }
        let mut output = vec![0; output_len.max(INLINE)];
        output[..INLINE].copy_from_slice(&view.command_output_inline_data());
        for (part, block) in output[INLINE..].chunks_mut(BLOCK_DATA).zip(out_chain) {
            map.read(*block, part)?;
        }
        let head = Output::new(&output);
        if head.status() != 0 {
            return Err(Error::Refused {
                opcode,
                status: Status::from_u8(head.status()),
                syndrome: head.syndrome(),
            });
        }
        Ok(output)
    }
}

fn write_chain(map: &MemoryMap, chain: &[u64], token: u8, mut data: &[u8]) -> Result<()> {
    for (number, block) in chain.iter().enumerate() {
        let mut bytes = [0; BLOCK as usize];
        let (part, rest) = data.split_at(data.len().min(BLOCK_DATA));
        bytes[..part.len()].copy_from_slice(part);
        data = rest;
        Block::new(&mut bytes)
            .set_next_pointer(chain.get(number + 1).copied().unwrap_or(0))
            .set_block_number(number as u32)
            .set_token(token);
        map.write(*block, &bytes)?;
    }
    Ok(())
}

fn xor(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum ^ byte)
}

/// An input of `len` bytes with its header.
pub fn input(opcode: Opcode, op_mod: u16, len: usize) -> Vec<u8> {
    let mut input = vec![0; len];
    Input::new(&mut input)
        .set_opcode(opcode.code())
        .set_op_mod(op_mod);
    input
}

/// An input whose word at 8 is an object number.
pub fn by_number(opcode: Opcode, number: u32) -> Vec<u8> {
    let mut input = input(opcode, 0, 16);
    input[8..12].copy_from_slice(&number.to_be_bytes());
    input
}
