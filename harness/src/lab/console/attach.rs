//! Attaches a terminal to a guest's serial console.

use std::io::{IsTerminal, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Ctrl-], as telnet has it.
const ESCAPE: u8 = 0x1d;

/// Connects standard input and output to the console at `socket` until Ctrl-] is typed or the guest ends.
pub fn attach(socket: &Path) -> Result<()> {
    let stream = UnixStream::connect(socket)
        .with_context(|| format!("no console at {}", socket.display()))?;
    let _raw = RawTerminal::enter()?;
    let mut from_guest = stream.try_clone()?;
    let printer = std::thread::spawn(move || {
        let mut out = std::io::stdout();
        let mut bytes = [0; 4096];
        while let Ok(length) = from_guest.read(&mut bytes) {
            let Some(read) = bytes.get(..length).filter(|read| !read.is_empty()) else {
                break;
            };
            if out.write_all(read).and_then(|()| out.flush()).is_err() {
                break;
            }
        }
    });
    pump(&mut std::io::stdin().lock(), &stream)?;
    stream.shutdown(std::net::Shutdown::Both).ok();
    if printer.join().is_err() {
        bail!("the console's reader failed");
    }
    Ok(())
}

/// Sends what is typed until the escape, the end of input, or the guest's end.
fn pump(input: &mut impl Read, mut stream: &UnixStream) -> Result<()> {
    // The shell prints its prompt anew.
    stream.write_all(b"\n")?;
    let mut bytes = [0; 256];
    loop {
        let length = input.read(&mut bytes)?;
        let typed = bytes.get(..length).unwrap_or_default();
        let escape = typed.iter().position(|byte| *byte == ESCAPE);
        let sent = stream.write_all(typed.get(..escape.unwrap_or(length)).unwrap_or_default());
        if length == 0 || escape.is_some() || sent.is_err() {
            return Ok(());
        }
    }
}

/// A terminal that hands over each key as it is typed. Dropped, it is as before.
struct RawTerminal {
    before: Option<String>,
}

impl RawTerminal {
    fn enter() -> Result<Self> {
        if !std::io::stdin().is_terminal() {
            return Ok(Self { before: None });
        }
        let before = stty(&["--save"])?.trim().to_owned();
        stty(&["raw", "-echo"])?;
        Ok(Self {
            before: Some(before),
        })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // Nothing better is to be done for a terminal that refuses.
            let _ = stty(&[before]);
        }
    }
}

fn stty(arguments: &[&str]) -> Result<String> {
    let output = Command::new("stty")
        .args(arguments)
        .stdin(Stdio::inherit())
        .output()
        .context("cannot run stty")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_sent_up_to_the_escape() {
        let (ours, mut guests) = UnixStream::pair().unwrap();
        pump(&mut &b"ls\n\x1dnot this"[..], &ours).unwrap();
        drop(ours);
        let mut got = String::new();
        guests.read_to_string(&mut got).unwrap();
        assert_eq!(got, "\nls\n");
    }
}
