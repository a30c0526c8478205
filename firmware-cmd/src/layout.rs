//! Bit-granular firmware structures: the `layout!` macro, the views it generates, and their field tables.
//!
//! Firmware manuals give a field as "big-endian word at byte 0x0c, bits 28 to 24". A declaration here says the same in
//! the same notation:
//!
//! ```text
//! layout! {
//!     /// Event queue context, `eqc`.
//!     pub context Eqc[0x40] {
//!         0x00[31:28] status;                 // bits of a word: bool, u8, u16 or u32, by width
//!         0x00[18] ec;                        // one bit: bool
//!         0x10 event;                         // a whole word: u32
//!         0x38 dbr_addr: u64;                 // two words
//!         0x20 mac: [u8; 6];                  // bytes
//!         0x40 wq: Wq;                        // another structure
//!         0x50 buffer: [Bufferx; 10];         // a fixed array, of structures or of u32 or u64
//!         0x110 pas: [u64];                   // an array that extends to the end of the buffer; then so does the structure
//!     }
//! }
//! ```
//!
//! `input` and `output` instead of `context` add the header every command has: opcode, uid and op_mod, or status and
//! syndrome. One generated type serves for reading and writing, depending on what it is laid over: `Eqc::new(&bytes)`
//! has getters, `Eqc::new(&mut bytes)` has getters and setters (`set_status`, `wq_mut`, `pas_mut`).
//!
//! The bytes come from a guest: what is missing reads as zero, what does not fit is not written, nothing panics.
//! This module knows nothing about any particular device.

mod array;
mod bytes;
mod int;
mod table;

pub use array::{Array, Element, Elements, Structure};
pub use bytes::{Bytes, BytesMut};
pub use int::{Bits, Int, Scalar, Width, double_word, get_bits, set_bits, set_bytes, word};
pub(crate) use table::fields;
pub use table::{Field, Kind, Layout, fmt};

/// Declare firmware structures, see the [module](self).
macro_rules! layout {
    // Accessors of one field. Arguments: attributes, offset, bits, name, type.
    (@get $(#[$m:meta])* $off:literal [] $name:ident [u64]) => {
        #[doc = concat!("`", stringify!($off), "`, 64 bits.")]
        $(#[$m])*
        #[inline]
        pub fn $name(&self) -> u64 {
            $crate::layout::double_word(self.0.bytes(), $off)
        }
    };
    (@get $(#[$m:meta])* $off:literal [] $name:ident [[u8]]) => {
        #[doc = concat!("From `", stringify!($off), "` to the end.")]
        $(#[$m])*
        #[inline]
        pub fn $name(&self) -> B::Part<'_> {
            self.0.part($off, usize::MAX)
        }
    };
    (@get $(#[$m:meta])* $off:literal [] $name:ident [[u8; $n:literal]]) => {
        #[doc = concat!("`", stringify!($off), "`, ", stringify!($n), " bytes.")]
        $(#[$m])*
        #[inline]
        pub fn $name(&self) -> [u8; $n] {
            let mut value = [0; $n];
            $crate::layout::set_bytes(&mut value, 0, self.0.part($off, $n).bytes());
            value
        }
    };
    (@get $(#[$m:meta])* $off:literal [] $name:ident [[$T:ident]]) => {
        #[doc = concat!("From `", stringify!($off), "` to the end.")]
        $(#[$m])*
        #[inline]
        pub fn $name(&self) -> $crate::layout::Array<layout!(@element $T), B::Part<'_>> {
            $crate::layout::Array::new(self.0.part($off, usize::MAX))
        }
    };
    (@get $(#[$m:meta])* $off:literal [] $name:ident [[$T:ident; $n:literal]]) => {
        #[doc = concat!("`", stringify!($off), "`, ", stringify!($n), " elements.")]
        $(#[$m])*
        #[inline]
        pub fn $name(&self) -> $crate::layout::Array<layout!(@element $T), B::Part<'_>> {
            let len = $n * <layout!(@element $T) as $crate::layout::Element>::SIZE;
            $crate::layout::Array::new(self.0.part($off, len))
        }
    };
    (@get $(#[$m:meta])* $off:literal [] $name:ident [$T:ident]) => {
        #[doc = concat!("At `", stringify!($off), "`.")]
        $(#[$m])*
        #[inline]
        pub fn $name(&self) -> $T<B::Part<'_>> {
            $T::new(self.0.part($off, $T::LAYOUT.extent()))
        }
    };
    (@get $(#[$m:meta])* $off:literal [] $name:ident []) => {
        layout!(@get $(#[$m])* $off [31 0] $name []);
    };
    (@get $(#[$m:meta])* $off:literal [$bit:literal] $name:ident []) => {
        layout!(@get $(#[$m])* $off [$bit $bit] $name []);
    };
    (@get $(#[$m:meta])* $off:literal [$hi:literal $lo:literal] $name:ident []) => {
        #[doc = concat!("`", stringify!($off), "[", stringify!($hi), ":", stringify!($lo), "]`.")]
        $(#[$m])*
        #[inline]
        pub fn $name(&self) -> $crate::layout::Int<{ $hi - $lo + 1 }> {
            $crate::layout::Scalar::from_u64($crate::layout::get_bits(self.0.bytes(), $off, $hi, $lo))
        }
    };

    (@set $off:literal [] $name:ident [u64]) => { pastey::paste! {
        #[doc = concat!("Set [`", stringify!($name), "`](Self::", stringify!($name), ").")]
        #[inline]
        pub fn [<set_ $name>](&mut self, value: u64) -> &mut Self {
            $crate::layout::set_bytes(self.0.bytes_mut(), $off, &value.to_be_bytes());
            self
        }
    }};
    (@set $off:literal [] $name:ident [[u8]]) => { pastey::paste! {
        #[doc = concat!("[`", stringify!($name), "`](Self::", stringify!($name), ") for writing.")]
        #[inline]
        pub fn [<$name _mut>](&mut self) -> &mut [u8] {
            self.0.part_mut($off, usize::MAX)
        }
    }};
    (@set $off:literal [] $name:ident [[u8; $n:literal]]) => { pastey::paste! {
        #[doc = concat!("Set [`", stringify!($name), "`](Self::", stringify!($name), ").")]
        #[inline]
        pub fn [<set_ $name>](&mut self, value: &[u8; $n]) -> &mut Self {
            $crate::layout::set_bytes(self.0.bytes_mut(), $off, value);
            self
        }
    }};
    (@set $off:literal [] $name:ident [[$T:ident]]) => { pastey::paste! {
        #[doc = concat!("[`", stringify!($name), "`](Self::", stringify!($name), ") for writing.")]
        #[inline]
        pub fn [<$name _mut>](&mut self) -> $crate::layout::Array<layout!(@element $T), &mut [u8]> {
            $crate::layout::Array::new(self.0.part_mut($off, usize::MAX))
        }
    }};
    (@set $off:literal [] $name:ident [[$T:ident; $n:literal]]) => { pastey::paste! {
        #[doc = concat!("[`", stringify!($name), "`](Self::", stringify!($name), ") for writing.")]
        #[inline]
        pub fn [<$name _mut>](&mut self) -> $crate::layout::Array<layout!(@element $T), &mut [u8]> {
            let len = $n * <layout!(@element $T) as $crate::layout::Element>::SIZE;
            $crate::layout::Array::new(self.0.part_mut($off, len))
        }
    }};
    (@set $off:literal [] $name:ident [$T:ident]) => { pastey::paste! {
        #[doc = concat!("[`", stringify!($name), "`](Self::", stringify!($name), ") for writing.")]
        #[inline]
        pub fn [<$name _mut>](&mut self) -> $T<&mut [u8]> {
            $T::new(self.0.part_mut($off, $T::LAYOUT.extent()))
        }
    }};
    (@set $off:literal [] $name:ident []) => {
        layout!(@set $off [31 0] $name []);
    };
    (@set $off:literal [$bit:literal] $name:ident []) => {
        layout!(@set $off [$bit $bit] $name []);
    };
    (@set $off:literal [$hi:literal $lo:literal] $name:ident []) => { pastey::paste! {
        #[doc = concat!("Set [`", stringify!($name), "`](Self::", stringify!($name), "); surplus high bits are cut off.")]
        #[inline]
        pub fn [<set_ $name>](&mut self, value: $crate::layout::Int<{ $hi - $lo + 1 }>) -> &mut Self {
            let value = $crate::layout::Scalar::to_u64(value);
            $crate::layout::set_bits(self.0.bytes_mut(), $off, $hi, $lo, value);
            self
        }
    }};

    // Table entry of one field.
    (@field $off:literal [] $name:ident [u64]) => {
        layout!(@field $off $name, 0, 64, $crate::layout::Kind::Int)
    };
    (@field $off:literal [] $name:ident [[u8]]) => {
        layout!(@field $off $name, 0, 0, $crate::layout::Kind::Bytes)
    };
    (@field $off:literal [] $name:ident [[u8; $n:literal]]) => {
        layout!(@field $off $name, 0, 8 * $n, $crate::layout::Kind::Bytes)
    };
    (@field $off:literal [] $name:ident [[u32]]) => {
        layout!(@field $off $name, 0, 0, $crate::layout::Kind::Bytes)
    };
    (@field $off:literal [] $name:ident [[u64]]) => {
        layout!(@field $off $name, 0, 0, $crate::layout::Kind::Bytes)
    };
    (@field $off:literal [] $name:ident [[u32; $n:literal]]) => {
        layout!(@field $off $name, 0, 32 * $n, $crate::layout::Kind::Bytes)
    };
    (@field $off:literal [] $name:ident [[u64; $n:literal]]) => {
        layout!(@field $off $name, 0, 64 * $n, $crate::layout::Kind::Bytes)
    };
    (@field $off:literal [] $name:ident [[$T:ident]]) => {
        layout!(@field $off $name, 0, 0, $crate::layout::Kind::Array($T::LAYOUT))
    };
    (@field $off:literal [] $name:ident [[$T:ident; $n:literal]]) => {
        layout!(@field $off $name, 0, 8 * $n * $T::SIZE as u32, $crate::layout::Kind::Array($T::LAYOUT))
    };
    (@field $off:literal [] $name:ident [$T:ident]) => {
        layout!(@field $off $name, 0, $T::LAYOUT.extent_bits(), $crate::layout::Kind::Struct($T::LAYOUT))
    };
    (@field $off:literal [] $name:ident []) => {
        layout!(@field $off $name, 0, 32, $crate::layout::Kind::Int)
    };
    (@field $off:literal [$bit:literal] $name:ident []) => {
        layout!(@field $off $name, 31 - $bit, 1, $crate::layout::Kind::Int)
    };
    (@field $off:literal [$hi:literal $lo:literal] $name:ident []) => {
        layout!(@field $off $name, 31 - $hi, $hi - $lo + 1, $crate::layout::Kind::Int)
    };
    (@field $off:literal $name:ident, $skip:expr, $bits:expr, $kind:expr) => {
        $crate::layout::Field { name: stringify!($name), bit_offset: 8 * $off + $skip, bits: $bits, kind: $kind }
    };

    (@element u32) => { u32 };
    (@element u64) => { u64 };
    (@element $T:ident) => { $T<()> };

    // One structure: the common header, then its own fields.
    (@input $($rest:tt)*) => {
        layout! { @context $($rest)* 0x00[31:16] opcode; 0x00[15:0] uid; 0x04[15:0] op_mod; }
    };
    (@output $($rest:tt)*) => {
        layout! { @context $($rest)* 0x00[31:24] status; 0x04 syndrome; }
    };
    (@context
        $(#[$m:meta])* $Name:ident[$size:literal]
        $($(#[$fm:meta])* $off:literal $([$hi:literal $(: $lo:literal)?])? $name:ident $(: $ty:tt)?;)*
    ) => {
        $(#[$m])*
        #[derive(Clone, Copy)]
        pub struct $Name<B>(B);

        impl $Name<()> {
            /// Bytes, without what follows in a variable array.
            pub const SIZE: usize = $size;
            /// Name, size and fields.
            pub const LAYOUT: &'static $crate::layout::Layout = &$crate::layout::Layout {
                name: stringify!($Name),
                size: $size,
                fields: Self::FIELDS,
            };
            /// The fields.
            pub const FIELDS: &'static [$crate::layout::Field] =
                &[$(layout!(@field $off [$($hi $($lo)?)?] $name [$($ty)?])),*];
        }

        impl<B> $Name<B> {
            /// Laid over `bytes`, from their start.
            #[inline]
            pub const fn new(bytes: B) -> Self {
                $Name(bytes)
            }
            /// The bytes again.
            #[inline]
            pub fn into_inner(self) -> B {
                self.0
            }
        }

        #[allow(unused_imports, reason = "not every structure has fields that need it")]
        const _: () = {
            use $crate::layout::{Bytes, BytesMut};

            #[allow(clippy::len_without_is_empty, reason = "a field may be called len")]
            impl<B: Bytes> $Name<B> {
                /// The bytes below.
                #[inline]
                pub fn as_bytes(&self) -> &[u8] {
                    self.0.bytes()
                }
                $(layout!(@get $(#[$fm])* $off [$($hi $($lo)?)?] $name [$($ty)?]);)*
            }

            impl<B: BytesMut> $Name<B> {
                /// The bytes below.
                #[inline]
                pub fn as_bytes_mut(&mut self) -> &mut [u8] {
                    self.0.bytes_mut()
                }
                /// Take over all bytes of another one, as far as there are any and there is room.
                pub fn assign<S: Bytes>(&mut self, other: &$Name<S>) {
                    $crate::layout::set_bytes(self.0.bytes_mut(), 0, other.0.bytes());
                }
                $(layout!(@set $off [$($hi $($lo)?)?] $name [$($ty)?]);)*
            }

            impl $crate::layout::Element for $Name<()> {
                const SIZE: usize = $size;
                type Value<S: Bytes> = $Name<S>;
                fn read<S: Bytes>(bytes: S) -> $Name<S> {
                    $Name(bytes)
                }
            }

            impl $crate::layout::Structure for $Name<()> {
                const LAYOUT: &'static $crate::layout::Layout = Self::LAYOUT;
            }

            impl<B: Bytes> std::fmt::Debug for $Name<B> {
                fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    $crate::layout::fmt(f, $Name::LAYOUT, self.0.bytes())
                }
            }
        };
    };
    ($($(#[$m:meta])* pub $kind:ident $Name:ident[$size:literal] { $($body:tt)* })*) => {
        $(layout! { @$kind $(#[$m])* $Name[$size] $($body)* })*
    };
}
pub(crate) use layout;

#[cfg(test)]
mod tests;
