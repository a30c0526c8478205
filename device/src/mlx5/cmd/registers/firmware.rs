//! MCQS and MCQI: the components of the firmware and their versions. There is one component, the
//! boot image; it cannot be updated, so no other version of it is ever pending.
//!
//! MFRL: resets of the firmware, as FreeBSD's `mlx5tool -z` asks for them: the driver detaches, has
//! the bridge above take the link down, and attaches anew. That is what resets; here is nothing to do.

use rocinante_firmware_cmd::mlx5::registers::management::{
    Mcqi, McqiCap, McqiVersion, Mcqs, Mfrl, Mnvda,
};

use super::{COMPONENT, CmdError, INFORMATION, ITEM, RESET, WINDOW};
use crate::mlx5::bar::FW_VERSION;

/// `component_index` of the boot image.
const BOOT_IMAGE: u16 = 0;
/// `identifier` of the boot image.
const BOOT_IMAGE_IDENTIFIER: u16 = 1;
const IN_USE: u8 = 2;
const IDLE: u8 = 0;

/// `info_type` values; bit n of `supported_info_bitmask` is about value n.
mod info {
    pub const CAPABILITIES: u8 = 0;
    pub const VERSION: u8 = 1;
}

/// Levels of MFRL: with the PCI link, and with the host's power.
const RESET_LEVELS: u8 = 1 << 3 | 1 << 6;

/// Reads MFRL.
pub(super) fn read_resets(data: &mut [u8]) {
    data.fill(0);
    Mfrl::new(data).set_reset_level(RESET_LEVELS);
}

/// Writes MFRL.
pub(super) fn ask_for_reset(data: &mut [u8]) -> Result<(), CmdError> {
    let level = Mfrl::new(data).reset_level();
    if level.is_power_of_two() && level & RESET_LEVELS != 0 {
        Ok(())
    } else {
        Err(RESET)
    }
}

/// Reads MCQS.
pub(super) fn read_state(data: &mut [u8]) -> Result<(), CmdError> {
    let index = Mcqs::new(&*data).component_index();
    if index != BOOT_IMAGE {
        return Err(COMPONENT);
    }
    data.fill(0);
    let mut mcqs = Mcqs::new(data);
    mcqs.set_last_index_flag(true).set_component_index(index);
    mcqs.set_identifier(BOOT_IMAGE_IDENTIFIER)
        .set_component_status(IN_USE)
        .set_component_update_state(IDLE);
    Ok(())
}

/// Reads MCQI. With nothing pending, `read_pending_component` makes no difference.
pub(super) fn read_information(data: &mut [u8]) -> Result<(), CmdError> {
    let mut mcqi = Mcqi::new(data);
    if mcqi.component_index() != BOOT_IMAGE {
        return Err(COMPONENT);
    }
    let mut whole = [0; McqiVersion::SIZE];
    let size = match mcqi.info_type() {
        info::CAPABILITIES => {
            // Sizes are of updates, and zero.
            McqiCap::new(&mut whole)
                .set_supported_info_bitmask(1 << info::CAPABILITIES | 1 << info::VERSION);
            McqiCap::SIZE
        }
        info::VERSION => {
            describe_version(&mut McqiVersion::new(&mut whole));
            McqiVersion::SIZE
        }
        _ => return Err(INFORMATION),
    };
    let start = mcqi.offset() as usize;
    let asked = whole.get(start..size).ok_or(WINDOW)?;
    let asked = &asked[..asked.len().min(mcqi.data_size().into())];
    let mut window = [0; McqiVersion::SIZE];
    window[..asked.len()].copy_from_slice(asked);
    mcqi.set_info_size(size as u32)
        .set_data_size(asked.len() as u16)
        .set_data(&window);
    Ok(())
}

/// Items of the adapter that can be asked for: virtual functions, what there can be of them, and
/// offloads of software steering and of drivers.
const ITEMS: [u32; 4] = [0x80, 0x81, 0x10a, 0x11d];

/// Reads MNVDA. There is no non-volatile memory: every item is as it comes, which is all zeros, no
/// virtual functions and balanced compression of completions among it.
pub(super) fn read_configuration(data: &mut [u8]) -> Result<(), CmdError> {
    let mut item = Mnvda::new(data);
    if item.type_class() != 0 || !ITEMS.contains(&item.parameter_index()) {
        return Err(ITEM);
    }
    item.set_data(&[0; 0x100]);
    Ok(())
}

fn describe_version(information: &mut McqiVersion<&mut [u8; McqiVersion::SIZE]>) {
    let (major, minor, subminor) = FW_VERSION;
    information.set_version(u32::from(major) << 24 | u32::from(minor) << 16 | u32::from(subminor));
    let text = format!("{major}.{minor}.{subminor:04}");
    let mut ascii = [0; 0x5c];
    for (to, from) in ascii.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    information
        .set_version_string_length(text.len() as u8)
        .set_version_string(&ascii);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer to `info_type`, of which `data_size` bytes from `offset` are asked for.
    fn ask(info_type: u8, offset: u32, data_size: u16) -> Result<Vec<u8>, CmdError> {
        let mut data = vec![0; Mcqi::SIZE];
        Mcqi::new(&mut data)
            .set_info_type(info_type)
            .set_offset(offset)
            .set_data_size(data_size);
        read_information(&mut data).map(|()| data)
    }

    #[test]
    fn the_only_component_is_a_boot_image_with_nothing_pending() {
        let mut data = [0; Mcqs::SIZE];
        read_state(&mut data).unwrap();
        assert_eq!(data, [0x80, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0x20, 0, 0, 0, 0]);
        for index in [1, u16::MAX] {
            Mcqs::new(&mut data).set_component_index(index);
            assert_eq!(read_state(&mut data), Err(COMPONENT));
        }
    }

    #[test]
    fn the_version_is_that_of_the_initialization_segment() {
        // What Linux asks for: all 124 bytes. 16.35.4030 is 0x10, 0x23, 0x0fbe.
        let data = ask(1, 0, 0x7c).unwrap();
        assert_eq!(
            data[0x08..0x18],
            [0, 0, 0, 1, 0, 0, 0, 0x7c, 0, 0, 0, 0, 0, 0, 0, 0x7c]
        );
        assert_eq!(data[0x18..0x20], [0, 0, 0, 10, 0x10, 0x23, 0x0f, 0xbe]);
        assert_eq!(&data[0x38..0x43], b"16.35.4030\0");
        let mut pending = vec![0; Mcqi::SIZE];
        Mcqi::new(&mut pending)
            .set_info_type(1)
            .set_data_size(0x7c)
            .set_read_pending_component(true);
        read_information(&mut pending).unwrap();
        assert_eq!(pending[0x18..], data[0x18..]);
    }

    #[test]
    fn the_capabilities_offer_no_update() {
        // FreeBSD asks for 20 bytes.
        let data = ask(0, 0, 0x14).unwrap();
        assert_eq!(
            data[0x0c..0x1c],
            [0, 0, 0, 0x14, 0, 0, 0, 0, 0, 0, 0, 0x14, 0, 0, 0, 3]
        );
        assert_eq!(data[0x1c..], [0; 0x78]);
    }

    #[test]
    fn a_window_is_cut_at_the_end_and_refused_behind_it() {
        let data = ask(1, 4, 4).unwrap();
        assert_eq!(
            data[0x14..0x20],
            [0, 0, 0, 4, 0x10, 0x23, 0x0f, 0xbe, 0, 0, 0, 0]
        );
        let data = ask(0, 0x10, u16::MAX).unwrap();
        assert_eq!(Mcqi::new(&data).data_size(), 4);
        assert_eq!(Mcqi::new(&ask(0, 0x14, 4).unwrap()).data_size(), 0);
        assert_eq!(ask(0, 0x15, 4), Err(WINDOW));
        assert_eq!(ask(1, u32::MAX, 4), Err(WINDOW));
    }

    /// What `devlink dev param` of Linux 7 asks for: the header alone names the item.
    #[test]
    fn the_configuration_is_as_it_comes() {
        let mut data = [0; Mnvda::SIZE];
        (data[3], data[7], data[0x10]) = (20, 0x81, 0xff);
        read_configuration(&mut data).unwrap();
        assert_eq!(data[..8], [0, 0, 0, 20, 0, 0, 0, 0x81]);
        assert_eq!(data[0x0c..], [0; 0x100]);
        data[4] = 3;
        assert_eq!(read_configuration(&mut data), Err(ITEM));
        (data[4], data[7]) = (0, 0x82);
        assert_eq!(read_configuration(&mut data), Err(ITEM));
    }

    #[test]
    fn what_is_unknown_is_refused() {
        for info_type in 2..32 {
            assert_eq!(ask(info_type, 0, 4), Err(INFORMATION), "{info_type}");
        }
        let mut data = [0; Mcqi::SIZE];
        Mcqi::new(&mut data).set_component_index(1);
        assert_eq!(read_information(&mut data), Err(COMPONENT));
    }
}
