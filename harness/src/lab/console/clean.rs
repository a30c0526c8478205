//! Makes plain text of a terminal's bytes.

/// Removes escape sequences and control characters from a stream that comes in pieces, cut anywhere.
#[derive(Debug, Default)]
pub struct Cleaner {
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// Behind ESC.
    Escape,
    /// Behind ESC and an intermediate byte: one more follows (ECMA-35, "designate").
    Intermediate,
    /// In a control sequence: ends with a byte in 0x40..0x7f (ECMA-48, 5.4).
    Control,
    /// In a control string: ends with BEL or ESC \ (ECMA-48, 5.6).
    Str,
}

impl Cleaner {
    /// Appends to `text` what `bytes` show. A backspace takes back the last character of the line.
    pub fn feed(&mut self, bytes: &[u8], text: &mut String) {
        for &byte in bytes {
            self.state = match (self.state, byte) {
                (State::Str, 0x07) => State::Text,
                (_, 0x1b) => State::Escape,
                (State::Str, _) => State::Str,
                (State::Escape, b'[') => State::Control,
                (State::Escape, b']' | b'P' | b'X' | b'^' | b'_') => State::Str,
                (State::Escape, 0x20..=0x2f) => State::Intermediate,
                (State::Escape | State::Intermediate, _) => State::Text,
                (State::Control, 0x40..=0x7e) => State::Text,
                (State::Control, 0x20..=0x3f) => State::Control,
                (State::Control | State::Text, _) => {
                    show(byte, text);
                    State::Text
                }
            };
        }
    }
}

fn show(byte: u8, text: &mut String) {
    match byte {
        b'\n' | b'\t' | 0x20..=0x7e => text.push(char::from(byte)),
        0x08 if text.ends_with(|c| c != '\n') => {
            text.pop();
        }
        // A serial console's other character sets are not worth knowing; that something was there is.
        0x80.. => text.push(char::REPLACEMENT_CHARACTER),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(pieces: &[&[u8]]) -> String {
        let mut cleaner = Cleaner::default();
        let mut text = String::new();
        for piece in pieces {
            cleaner.feed(piece, &mut text);
        }
        text
    }

    #[test]
    fn colours_and_cursors_go() {
        // As FreeBSD's loader draws its menu.
        let menu = b"\x1b[1;1H\x1b[0;31;1m\x1b[2J\x1b[09;11H1. Boot Multi user\x1b[m \x1b[1m[Enter]\x1b[0m\r\n";
        assert_eq!(clean(&[menu]), "1. Boot Multi user [Enter]\n");
    }

    #[test]
    fn sequences_may_be_cut_anywhere() {
        let whole = b"a\x1b[01;31mb\x1b]0;title\x07c\x1b(Bd\x1bce\x1bPq\x1b\\f";
        let pieces: Vec<&[u8]> = whole.chunks(1).collect();
        assert_eq!(clean(&pieces), "abcdef");
        assert_eq!(clean(&[whole]), "abcdef");
    }

    #[test]
    fn a_twiddle_leaves_nothing_and_lines_are_not_joined() {
        assert_eq!(clean(&[b"-\x08\\\x08|\x08/\x08ok\r\n\x08x"]), "ok\nx");
    }

    #[test]
    fn what_is_not_ascii_is_marked() {
        assert_eq!(clean(&[b"a\xc3\x86b\0\x07"]), "a\u{fffd}\u{fffd}b");
    }
}
