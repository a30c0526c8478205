//! Frames that ask for a pause: IEEE 802.3 annex 31B, and 802.1Qbb (annex 31D) for single priorities.

/// Where they go to: to whoever is at the other end of the wire, no further.
const ADDRESS: [u8; 6] = [0x01, 0x80, 0xc2, 0x00, 0x00, 0x01];
/// Of the switch; locally administered.
const SOURCE: [u8; 6] = [0x02, 0x52, 0, 0, 0, 0];
const ETHERTYPE: [u8; 2] = [0x88, 0x08];
const PAUSE: [u8; 2] = [0x00, 0x01];
const PRIORITY_PAUSE: [u8; 2] = [0x01, 0x01];
/// Of 512 bit times each: as long as can be asked for.
const LONGEST: [u8; 2] = [0xff, 0xff];

/// The frame that asks for the longest pause of these priorities, or of the whole link, or ends it.
pub(super) fn frame(priorities: Option<u8>, off: bool) -> [u8; 60] {
    let time = if off { LONGEST } else { [0; 2] };
    let mut frame = [0; 60];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        if let Some(to) = frame.get_mut(at..at + bytes.len()) {
            to.copy_from_slice(bytes);
        }
        at += bytes.len();
    };
    for bytes in [&ADDRESS[..], &SOURCE, &ETHERTYPE] {
        put(bytes);
    }
    match priorities {
        None => {
            put(&PAUSE);
            put(&time);
        }
        Some(mask) => {
            put(&PRIORITY_PAUSE);
            put(&[0, mask]);
            for priority in 0..8 {
                put(if mask >> priority & 1 == 1 {
                    &time
                } else {
                    &[0; 2]
                });
            }
        }
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_as_the_standard_lays_them_out() {
        let link = frame(None, true);
        assert_eq!(link[..6], [1, 0x80, 0xc2, 0, 0, 1]);
        assert_eq!(link[12..20], [0x88, 8, 0, 1, 0xff, 0xff, 0, 0]);
        assert_eq!(frame(None, false)[12..20], [0x88, 8, 0, 1, 0, 0, 0, 0]);
        let priorities = frame(Some(0b1000_0010), true);
        assert_eq!(priorities[12..18], [0x88, 8, 1, 1, 0, 0b1000_0010]);
        assert_eq!(priorities[18..22], [0, 0, 0xff, 0xff]);
        assert_eq!(priorities[30..36], [0, 0, 0xff, 0xff, 0, 0]);
        let on = frame(Some(0b10), false);
        assert_eq!(on[14..22], [1, 1, 0, 2, 0, 0, 0, 0]);
    }
}
