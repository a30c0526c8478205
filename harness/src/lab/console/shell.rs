//! Commands by a Bourne shell behind a console: what they said and how they ended.
//!
//! What is typed may be echoed, lines of the kernel may stand between and even within those of a command, and a piece of a line
//! may be lost. So a command is first handed over in pieces, as shell variables, each of which the shell confirms with its length.
//! Then one line runs it, unless it has been run: that line, too, can be sent again. Marks are typed with quotes in them, that an
//! echo isn't taken for the answer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};

use super::stream::Console;
use crate::lab::guest::{Output, excerpt};

/// A terminal in canonical mode takes 255 bytes a line at least (POSIX, `_POSIX_MAX_CANON`); quoting and the rest need some.
const PIECE: usize = 160;
/// What a shell confirms, it confirms by then, even emulated and on a busy host.
const ANSWER: Duration = Duration::from_secs(5);
/// How often a line is sent before the shell is given up.
const TRIES: usize = 12;
/// So many lines of a panic are quoted: a stack trace.
const WORDS: usize = 60;
/// Ctrl-C: drops a line that was lost in part.
const INTERRUPT: &[u8] = b"\x03";
/// A shell drops what it reads before it has heard of an interrupt.
const HEARD: Duration = Duration::from_millis(500);

/// A shell behind a console.
pub struct Shell {
    console: Console,
    /// Of the last command. Commands are run one at a time.
    serial: Mutex<u64>,
    /// A command could not be interrupted: nothing can be said to the shell until the system starts anew.
    stuck: AtomicBool,
}

impl Shell {
    /// Replaces the shell at whose prompt the console is, which may be any, by `/bin/sh`.
    pub fn start(console: Console) -> Result<Self> {
        let mut shell = Self {
            console,
            serial: Mutex::new(0),
            stuck: AtomicBool::new(false),
        };
        shell.restart()?;
        Ok(shell)
    }

    /// Does so again, after the system has started anew.
    pub fn restart(&mut self) -> Result<()> {
        self.stuck.store(false, Ordering::Relaxed);
        self.console.send(b"exec /bin/sh\r")?;
        // Line editing shows each line twice, and prompts are not waited for.
        // FreeBSD's kernel keeps what is written to /dev/console in its log, where reading the log would push out what it is read for.
        self.confirmed("H0", |again| {
            self.interrupt(again)?;
            self.console.send(
                b"stty -echo 2>/dev/null; [ -c /dev/ttyu0 ] && exec >/dev/ttyu0 2>&1; (set +E +V) 2>/dev/null && set +E +V; PS1= PS2= N=$(printf '\\nx'); N=${N%x}; TERM=dumb; echo @@'H'0@@\r",
            )
        })
    }

    /// Leaves the console to others, with the shell as people expect it.
    pub fn leave(&self) {
        // A console that is gone needs no manners.
        let _ = self
            .console
            .send(b"stty echo 2>/dev/null; PS1='# ' PS2='> '\r");
        self.console.hang_up();
    }

    /// The console.
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// Runs `command` in a subshell, with no input, and waits for its end. One that has not ended after `patience` is interrupted,
    /// and the error quotes what it had printed.
    pub fn run(&self, command: &str, patience: Duration) -> Result<Output> {
        self.run_as(command, patience, |whole| {
            format!("(eval \"{whole}\") </dev/null 2>&1")
        })
    }

    /// Like [`Shell::run`], in the shell itself: variables stay, and so do its jobs in the background.
    pub fn run_here(&self, command: &str, patience: Duration) -> Result<Output> {
        self.run_as(command, patience, |whole| format!("eval \"{whole}\""))
    }

    fn run_as(
        &self,
        command: &str,
        patience: Duration,
        evaluated: impl Fn(&str) -> String,
    ) -> Result<Output> {
        if self.stuck.load(Ordering::Relaxed) {
            bail!(
                "in {}: an earlier command cannot be ended, so `{command}` was not run",
                self.console.name()
            );
        }
        let mut serial = self.serial.lock().unwrap_or_else(PoisonError::into_inner);
        *serial += 1;
        let serial = *serial;
        let pieces = pieces(command);
        for (index, (quoted, length)) in pieces.iter().enumerate() {
            let line = format!("R{index}={quoted}; echo @@'C'{serial}.{index}.${{#R{index}}}@@\r");
            self.confirmed(&format!("C{serial}.{index}.{length}"), |again| {
                self.interrupt(again)?;
                self.console.send(line.as_bytes())
            })?;
        }
        let whole: String = (0..pieces.len())
            .map(|index| format!("$R{index}"))
            .collect();
        let start = self.console.position();
        self.execute(serial, &evaluated(&whole), start, patience)
            .map_err(|error| error.context(format!("in {}: `{command}`", self.console.name())))
    }

    fn execute(
        &self,
        serial: u64,
        evaluated: &str,
        start: u64,
        patience: Duration,
    ) -> Result<Output> {
        let line = format!(
            "[ \"$K\" = {serial} ] || {{ K={serial}; echo; echo @@'B'{serial}@@; {evaluated}; S=$?; }}; echo; echo @@'E'{serial}.$S@@\r"
        );
        self.console.send(line.as_bytes())?;
        let begin = format!("@@B{serial}@@");
        let end = format!("@@E{serial}.");
        let deadline = Instant::now() + patience;
        let mut asked = 1;
        loop {
            let ask = (Instant::now() + ANSWER * asked).min(deadline);
            let found = self
                .console
                .look(start, ask, |text| answer(text, &begin, &end))?;
            if let Some(output) = found {
                return Ok(output);
            }
            self.check_kernel(start)?;
            if Instant::now() >= deadline {
                break;
            }
            // Asks again, ever less often: runs the command if the line was lost, and else only tells the status.
            asked += 1;
            self.console.send(line.as_bytes())?;
        }
        let text = self.console.since(start);
        let said = text.split_once(&begin).map_or(&*text, |(_, said)| said);
        let error = anyhow!(
            "did not end within {patience:?}; so far it said: {}",
            excerpt(said)
        );
        self.interrupt(true)?;
        // Something that doesn't die of an interrupt must not get the next command's lines as its input.
        let mark = format!("I{serial}");
        match self.confirmed(&mark, |_| {
            self.console
                .send(format!("echo @@'I'{serial}@@\r").as_bytes())
        }) {
            Ok(()) => Err(error),
            Err(_) => {
                self.stuck.store(true, Ordering::Relaxed);
                Err(error.context("the shell does not answer any more"))
            }
        }
    }

    /// A kernel that has stopped is told at once, with what it said.
    fn check_kernel(&self, since: u64) -> Result<()> {
        let text = self.console.since(since);
        let Some(words) = last_words(&text) else {
            return Ok(());
        };
        self.stuck.store(true, Ordering::Relaxed);
        bail!("the kernel has panicked:\n{words}");
    }

    fn interrupt(&self, needed: bool) -> Result<()> {
        if needed {
            self.console.send(INTERRUPT)?;
            std::thread::sleep(HEARD);
        }
        Ok(())
    }

    /// Types by `send`, again if need be, until the shell has answered with `mark`.
    fn confirmed(&self, mark: &str, send: impl Fn(bool) -> Result<()>) -> Result<()> {
        let start = self.console.position();
        let wanted = format!("@@{mark}@@");
        for attempt in 0..TRIES {
            send(attempt > 0)?;
            let found = self.console.look(start, Instant::now() + ANSWER, |text| {
                text.contains(&wanted).then_some(())
            })?;
            if found.is_some() {
                return Ok(());
            }
            self.check_kernel(0)?;
        }
        bail!(
            "no shell answers on the console of {}{}",
            self.console.name(),
            self.console.tail()
        );
    }
}

/// What a kernel has said of its panic, if the console ends with it: another line may be of an older one, out of its log.
fn last_words(text: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let begin = lines
        .iter()
        .rposition(|line| line.starts_with("panic: ") || line.starts_with("Fatal trap "))?;
    let end = lines.iter().rposition(|line| !line.is_empty())?;
    // The debugger's prompt, with what we have typed at it, or what stands there without a debugger
    // (kern_shutdown.c).
    let over = lines.get(begin..=end)?.iter().rev().take(6).any(|line| {
        line.starts_with("db> ")
            || *line == "db>"
            || line.starts_with("Automatic reboot in ")
            || line.contains("on the console to reboot")
    });
    let said = lines.get(begin..)?;
    let said = said
        .iter()
        .position(|line| line.starts_with("db>"))
        .map_or(said, |prompt| said.get(..prompt).unwrap_or(said));
    let said: Vec<&str> = said.iter().take(WORDS).copied().collect();
    over.then(|| said.join("\n"))
}

/// Finds a command's output and status between its marks.
fn answer(text: &str, begin: &str, end: &str) -> Option<Output> {
    // Of answers to a question asked twice, the first.
    let (before, after) = text.split_once(end)?;
    let status = after.split_once("@@")?.0.parse().ok()?;
    // Of a flood the beginning is forgotten.
    let said = before.split_once(begin).map_or(before, |(_, said)| said);
    let said = said.strip_prefix('\n').unwrap_or(said);
    // The mark stands on a line of its own, even if the command's last is not complete.
    let said = said.strip_suffix('\n').unwrap_or(said);
    Some(Output {
        status,
        text: said.to_owned(),
    })
}

/// `command` in pieces, each quoted for the shell and with its length in characters. A newline is the variable N.
fn pieces(command: &str) -> Vec<(String, usize)> {
    let mut pieces = Vec::new();
    let mut quoted = String::from("'");
    let mut length = 0;
    for c in command.chars() {
        match c {
            '\'' => quoted.push_str(r"'\''"),
            '\n' => quoted.push_str("'\"$N\"'"),
            c => quoted.push(c),
        }
        length += 1;
        if quoted.len() >= PIECE {
            quoted.push('\'');
            pieces.push((std::mem::replace(&mut quoted, String::from("'")), length));
            length = 0;
        }
    }
    if length > 0 || pieces.is_empty() {
        quoted.push('\'');
        pieces.push((quoted, length));
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Fake, Manners};
    use super::*;

    const SOON: Duration = Duration::from_secs(60);

    fn shell(manners: Manners) -> Shell {
        Shell::start(Fake::shell(manners)).unwrap()
    }

    fn check(manners: Manners) {
        let shell = shell(manners);
        let output = shell.run("echo one; echo two >&2; exit 3", SOON).unwrap();
        assert_eq!((output.status, &*output.text), (3, "one\ntwo\n"));
        let output = shell.run("printf incomplete", SOON).unwrap();
        assert_eq!((output.status, &*output.text), (0, "incomplete"));
        let output = shell.run("true", SOON).unwrap();
        assert_eq!((output.status, &*output.text), (0, ""));
        // Nothing of a command stays, and none reads the console.
        let output = shell.run("cd /; X=1; cat", SOON).unwrap();
        assert_eq!((output.status, &*output.text), (0, ""));
        let output = shell.run("echo \"${X-none}\"", SOON).unwrap();
        assert_eq!(output.text, "none\n");
    }

    #[test]
    fn commands_have_output_and_status() {
        check(Manners::default());
    }

    #[test]
    fn jobs_in_the_background_go_on() {
        let shell = shell(Manners::default());
        let start = shell.console().position();
        shell
            .run_here("(sleep 0.1; echo \"served $((40 + 2))\") & J=$!", SOON)
            .unwrap();
        let output = shell.run("echo meanwhile", SOON).unwrap();
        assert!(output.text.contains("meanwhile\n"), "{output:?}");
        shell.console().expect(start, "served 42", SOON).unwrap();
        assert!(
            shell
                .run("echo $J", SOON)
                .unwrap()
                .text
                .trim()
                .parse::<u32>()
                .is_ok()
        );
    }

    #[test]
    fn an_echo_is_not_taken_for_the_answer() {
        check(Manners {
            echo: true,
            prompt: "\x1b[1mroot@freebsd\x1b[0m:~ # ",
            ..Manners::default()
        });
    }

    #[test]
    fn lines_that_are_lost_are_sent_again() {
        check(Manners {
            deaf: 2,
            kernel: "mce0: link state changed to UP\r\n",
            ..Manners::default()
        });
    }

    #[test]
    fn a_console_may_hand_over_byte_by_byte() {
        check(Manners {
            piece: 1,
            ..Manners::default()
        });
    }

    #[test]
    fn lines_that_are_long_or_many_arrive_whole() {
        let shell = shell(Manners {
            longest: Some(255),
            ..Manners::default()
        });
        let long = "x'\"$ \\".repeat(500);
        let command = format!("cat <<'EOF'\n{long}\nsecond\n\nEOF\n");
        let output = shell.run(&command, SOON).unwrap();
        assert_eq!(output.text, format!("{long}\nsecond\n\n"));
    }

    #[test]
    fn a_command_that_does_not_end_is_interrupted_and_quoted() {
        let shell = shell(Manners::default());
        let error = shell
            .run("echo began; sleep 1000", Duration::from_millis(300))
            .unwrap_err();
        let text = format!("{error:#}");
        assert!(
            text.contains("sleep 1000") && text.contains("began"),
            "{text}"
        );
        assert_eq!(shell.run("echo alive", SOON).unwrap().text, "alive\n");
    }

    #[test]
    fn a_command_that_cannot_be_ended_is_not_waited_for_twice() {
        let shell = shell(Manners::default());
        shell.stuck.store(true, Ordering::Relaxed);
        let started = Instant::now();
        let error = shell.run("true", SOON).unwrap_err();
        assert!(error.to_string().contains("cannot be ended"), "{error}");
        assert!(started.elapsed() < SOON / 2);
    }

    #[test]
    fn a_console_that_goes_away_is_told() {
        let shell = shell(Manners {
            hang_up_at: Some("bye"),
            ..Manners::default()
        });
        let error = shell.run("echo bye; sleep 1000", SOON).unwrap_err();
        assert!(format!("{error:#}").contains("hung up"), "{error:#}");
    }

    #[test]
    fn a_panic_is_told_with_its_trace() {
        let trace = "panic: mtx_lock() of spin mutex\r\ncpuid = 0\r\nKDB: stack backtrace:\r\nidr_destroy() at idr_destroy+0x24\r\nKDB: enter: panic\r\n";
        for end in [
            "db> ",
            "Uptime: 1m2s\r\nAutomatic reboot in 15 seconds - press a key on the console to abort\r\n",
        ] {
            let console = Fake::play(move |fake| {
                fake.typed("H'0@@\n");
                fake.say("@@H0@@\r\n");
                fake.typed("'C'1.0.");
                fake.say("@@C1.0.4@@\r\n");
                fake.typed("@@'E'");
                fake.say(trace);
                fake.say(end);
                fake.typed("never");
            });
            let shell = Shell::start(console).unwrap();
            let started = Instant::now();
            let error = format!("{:#}", shell.run("boom", SOON).unwrap_err());
            assert!(started.elapsed() < SOON / 2, "{error}");
            assert!(
                error.contains("panicked") && error.contains("idr_destroy+0x24"),
                "{error}"
            );
            assert!(!error.contains("db>"), "{error}");
            let error = shell.run("true", SOON).unwrap_err().to_string();
            assert!(error.contains("cannot be ended"), "{error}");
        }
    }

    #[test]
    fn an_old_panic_in_a_log_is_none() {
        let log = "panic: old\nKDB: stack backtrace:\nUptime: 3s\n";
        assert_eq!(last_words(log), None);
        let log = format!("{log}{}", "mce0: link state changed to UP\n".repeat(8));
        assert_eq!(last_words(&log), None);
        assert!(last_words(&format!("{log}panic: new\ndb> ")).is_some_and(|w| w == "panic: new"));
    }

    #[test]
    fn marks_are_found_between_the_kernels_lines() {
        let text = "[ \"$K\" = 3 ] || ...@@'B'3@@ ... @@'E'3.$S@@\nmce0: link down\n\n@@B3@@\nhe\nmlx5: x\nllo\n\nusb0: y\n@@E3.1@@\n";
        let output = answer(text, "@@B3@@", "@@E3.").unwrap();
        assert_eq!(output.status, 1);
        assert!(output.text.starts_with("he\nmlx5: x\nllo\n"), "{output:?}");
        assert_eq!(answer("@@B3@@\nhello\n@@E3.", "@@B3@@", "@@E3."), None);
        // Torn apart by the kernel: the shell is asked again.
        assert_eq!(answer("@@E3.mlx5: x\n0@@", "@@B3@@", "@@E3."), None);
    }

    #[test]
    fn pieces_are_short_and_quoted() {
        let command = "echo 'a'\n".repeat(100);
        let pieces = pieces(&command);
        assert!(pieces.iter().all(|(quoted, _)| quoted.len() < PIECE + 8));
        let length: usize = pieces.iter().map(|(_, length)| length).sum();
        assert_eq!(length, command.len());
        assert_eq!(super::pieces(""), [("''".to_owned(), 0)]);
    }
}
