//! Declared structures as data: for logs, for the reserved-bit check, and for whoever wants to damage a field by name.

use std::fmt;

use super::{double_word, get_bits, set_bits, set_bytes};

/// A declared structure as data.
#[derive(Debug)]
pub struct Layout {
    /// Name of the generated type.
    pub name: &'static str,
    /// Bytes, without what follows in a variable array.
    pub size: usize,
    /// In order of declaration.
    pub fields: &'static [Field],
}

/// A field of a [`Layout`].
#[derive(Debug)]
pub struct Field {
    /// As in `mlx5_ifc.h`, with few exceptions.
    pub name: &'static str,
    /// Distance of its most significant bit from the start of the structure, whose bit 0 is bit 7 of byte 0.
    pub bit_offset: u32,
    /// Width; 0 if it extends to the end of the buffer.
    pub bits: u32,
    /// What is in it.
    pub kind: Kind,
}

/// What a field holds.
#[derive(Debug)]
pub enum Kind {
    /// A big-endian integer.
    Int,
    /// Bytes, or an array of integers.
    Bytes,
    /// Another structure.
    Struct(&'static Layout),
    /// Other structures, one after the other.
    Array(&'static Layout),
}

impl Layout {
    /// Bytes that belong to it: `size`, or all there are if it ends in an array.
    #[must_use]
    pub const fn extent(&self) -> usize {
        let mut at = 0;
        while at < self.fields.len() {
            if self.fields[at].bits == 0 {
                return usize::MAX;
            }
            at += 1;
        }
        self.size
    }

    /// [`extent`](Self::extent) as the width of a field.
    pub(crate) const fn extent_bits(&self) -> u32 {
        if self.extent() == usize::MAX {
            0
        } else {
            8 * self.size as u32
        }
    }

    /// The field of that name, if there is one.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// Whether bit `bit`, counted from bit 7 of byte 0, belongs to a field.
    #[must_use]
    pub fn covers(&self, bit: u32) -> bool {
        self.fields.iter().any(|field| {
            let Some(inner) = bit.checked_sub(field.bit_offset) else {
                return false;
            };
            if field.bits != 0 && inner >= field.bits {
                return false;
            }
            match field.kind {
                Kind::Int | Kind::Bytes => true,
                Kind::Struct(layout) => layout.covers(inner),
                Kind::Array(layout) => layout.covers(inner % (8 * layout.size.max(1) as u32)),
            }
        })
    }

    /// The first bit that is set in `bytes` but belongs to no field, as (byte, bit of that byte).
    ///
    /// Takes time in proportion to the number of set bits times the number of fields: for logs and tests.
    #[must_use]
    pub fn reserved_bit(&self, bytes: &[u8]) -> Option<(usize, u32)> {
        let bits = bytes
            .iter()
            .take(self.size)
            .enumerate()
            .filter(|&(_, &byte)| byte != 0);
        bits.flat_map(|(at, &byte)| {
            (0..8)
                .rev()
                .filter(move |bit| byte >> bit & 1 != 0)
                .map(move |bit| (at, bit))
        })
        .find(|&(at, bit)| !self.covers(8 * at as u32 + 7 - bit))
    }
}

impl Field {
    /// The value, if it is an integer.
    #[must_use]
    pub fn int(&self, bytes: &[u8]) -> Option<u64> {
        let word = (self.bit_offset / 32 * 4) as usize;
        match (&self.kind, self.bits) {
            (Kind::Int, 64) => Some(double_word(bytes, word)),
            (Kind::Int, bits @ 1..=32) => {
                let hi = 31 - self.bit_offset % 32;
                Some(get_bits(bytes, word, hi, hi + 1 - bits))
            }
            _ => None,
        }
    }

    /// Replace the value, if it is an integer; surplus high bits are cut off.
    pub fn set_int(&self, bytes: &mut [u8], value: u64) {
        let word = (self.bit_offset / 32 * 4) as usize;
        match (&self.kind, self.bits) {
            (Kind::Int, 64) => set_bytes(bytes, word, &value.to_be_bytes()),
            (Kind::Int, bits @ 1..=32) => {
                let hi = 31 - self.bit_offset % 32;
                set_bits(bytes, word, hi, hi + 1 - bits, value);
            }
            _ => {}
        }
    }

    /// The bytes it starts in, up to its end or that of `bytes`.
    #[must_use]
    pub fn bytes<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        let start = ((self.bit_offset / 8) as usize).min(bytes.len());
        let end = match self.bits {
            0 => bytes.len(),
            bits => (start + bits.div_ceil(8) as usize).min(bytes.len()),
        };
        &bytes[start..end]
    }
}

/// At most this many bytes or elements of an array are written out.
const SHOWN: usize = 16;

/// Write the fields that are not zero: `log_cq_size 0x7 uar_page 0x10 wq { … }`.
///
/// # Errors
///
/// Those of `f`.
pub fn fmt(f: &mut fmt::Formatter<'_>, layout: &Layout, bytes: &[u8]) -> fmt::Result {
    f.write_str(layout.name)?;
    fields(f, layout, bytes, &[])
}

/// As [`fmt()`], without the name of the structure and without the fields called one of `hidden`.
pub(crate) fn fields(
    f: &mut fmt::Formatter<'_>,
    layout: &Layout,
    bytes: &[u8],
    hidden: &[&str],
) -> fmt::Result {
    for field in layout
        .fields
        .iter()
        .filter(|field| !hidden.contains(&field.name))
    {
        if let Some(value) = field.int(bytes) {
            if value != 0 {
                write!(f, " {} {value:#x}", field.name)?;
            }
            continue;
        }
        let inner = field.bytes(bytes);
        if inner.iter().all(|&byte| byte == 0) {
            continue;
        }
        write!(f, " {}", field.name)?;
        match field.kind {
            Kind::Int | Kind::Bytes => {
                f.write_str(" ")?;
                inner
                    .iter()
                    .take(SHOWN)
                    .try_for_each(|byte| write!(f, "{byte:02x}"))?;
                if inner.len() > SHOWN {
                    write!(f, "… ({} bytes)", inner.len())?;
                }
            }
            Kind::Struct(layout) => {
                f.write_str(" {")?;
                fields(f, layout, inner, &[])?;
                f.write_str(" }")?;
            }
            Kind::Array(layout) => {
                f.write_str(" [")?;
                for element in inner.chunks_exact(layout.size.max(1)).take(SHOWN) {
                    f.write_str(" {")?;
                    fields(f, layout, element, &[])?;
                    f.write_str(" }")?;
                }
                f.write_str(" ]")?;
            }
        }
    }
    Ok(())
}
