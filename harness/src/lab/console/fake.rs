//! Consoles for tests: a real `sh` behind a made-up terminal with bad manners, and threads that play a script.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::stream::Console;

/// How a fake console behaves.
#[derive(Clone, Copy, Debug)]
pub struct Manners {
    /// Shows what is typed.
    pub echo: bool,
    /// Shown before each line.
    pub prompt: &'static str,
    /// At most so many bytes at a time.
    pub piece: usize,
    /// Longer lines are cut, as a terminal in canonical mode does it.
    pub longest: Option<usize>,
    /// Hangs up at a line that the shell says.
    pub hang_up_at: Option<&'static str>,
    /// Drops so many of the first lines that are typed.
    pub deaf: usize,
    /// The kernel says so whenever something is typed.
    pub kernel: &'static str,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            echo: false,
            prompt: "",
            piece: 4096,
            longest: None,
            hang_up_at: None,
            deaf: 0,
            kernel: "",
        }
    }
}

/// The other end of a console in a test.
pub struct Fake {
    stream: UnixStream,
    typed: String,
}

impl Fake {
    /// A console whose other end is played by `script`. What the script doesn't expect ends it, and so the console.
    pub fn play(script: impl FnOnce(&mut Self) + Send + 'static) -> Console {
        let (ours, theirs) = UnixStream::pair().unwrap();
        std::thread::spawn(move || {
            theirs
                .set_read_timeout(Some(Duration::from_secs(60)))
                .unwrap();
            script(&mut Self {
                stream: theirs,
                typed: String::new(),
            });
        });
        Console::new("fake", ours, tempfile::tempfile().unwrap()).unwrap()
    }

    /// Shows `text`.
    pub fn say(&mut self, text: &str) {
        // The test may be over.
        let _ = self.stream.write_all(text.as_bytes());
    }

    /// Waits until `wanted` has been typed, and gives what was typed before. Carriage returns are newlines.
    pub fn typed(&mut self, wanted: &str) -> String {
        let mut bytes = [0; 256];
        loop {
            if let Some((before, after)) = self.typed.split_once(wanted) {
                let before = before.to_owned();
                self.typed = after.to_owned();
                return before;
            }
            let length = self.stream.read(&mut bytes).unwrap_or(0);
            if length == 0 {
                // The test is over.
                return String::new();
            }
            let read = String::from_utf8_lossy(&bytes[..length]);
            self.typed.push_str(&read.replace('\r', "\n"));
        }
    }

    /// Like [`Fake::typed`], for one that echoes each character as it is typed, as a loader does.
    pub fn typed_with_echo(&mut self, wanted: &str) {
        let mut bytes = [0; 1];
        loop {
            if let Some((_, after)) = self.typed.split_once(wanted) {
                self.typed = after.to_owned();
                return;
            }
            if self.stream.read(&mut bytes).unwrap_or(0) == 0 {
                return;
            }
            let shown = if bytes[0] == b'\r' {
                "\r\n"
            } else {
                std::str::from_utf8(&bytes).unwrap()
            };
            self.say(shown);
            self.typed.push_str(&shown.replace('\r', ""));
        }
    }

    /// A console with the host's `sh` at its other end, on a terminal of its own.
    pub fn shell(manners: Manners) -> Console {
        Self::play(move |fake| fake.serve(manners))
    }

    fn serve(&mut self, manners: Manners) {
        // script(1) gives it the terminal: with lines, an echo until it is told otherwise, and interrupts.
        let mut child = Command::new("script")
            .args(["-q", "-e", "-c", "exec sh -i", "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let mut output = child.stdout.take().unwrap();
        let screen = Arc::new(Mutex::new(self.stream.try_clone().unwrap()));
        let shown = Arc::clone(&screen);
        let show = move |bytes: &[u8], screen: &Mutex<UnixStream>| {
            for piece in bytes.chunks(manners.piece) {
                let _ = screen.lock().unwrap().write_all(piece);
            }
        };
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut bytes) {
                let read = &bytes[..length];
                show(read, &shown);
                let text = String::from_utf8_lossy(read);
                if manners.hang_up_at.is_some_and(|last| text.contains(last)) {
                    let _ = shown.lock().unwrap().shutdown(std::net::Shutdown::Both);
                }
            }
        });
        show(manners.prompt.as_bytes(), &screen);
        let mut deaf = manners.deaf;
        let mut line = Vec::new();
        let mut byte = [0; 1];
        while let Ok(1) = self.stream.read(&mut byte) {
            line.push(byte[0]);
            if !matches!(byte[0], b'\r' | 3) {
                continue;
            }
            if let Some(longest) = manners.longest.filter(|longest| line.len() > *longest) {
                line.truncate(longest);
                line.push(b'\r');
            }
            if manners.echo {
                show(&line, &screen);
            }
            show(manners.kernel.as_bytes(), &screen);
            if deaf > 0 && byte[0] == b'\r' {
                deaf -= 1;
            } else if input.write_all(&line).is_err() {
                break;
            }
            show(manners.prompt.as_bytes(), &screen);
            line.clear();
        }
        drop(input);
        let _ = child.kill();
        let _ = child.wait();
    }
}
