//! From power-on to a root shell: what is to be said to FreeBSD's loader and to its login, and when.
//!
//! Official images speak to a display that nobody looks at. Their loader does so through the BIOS, whose screen and keyboard are on
//! a serial port of their own here (SeaBIOS' "sercon"), called the firmware's: there the menu is left, the kernel is told to use the
//! other serial port, and booted. Images that are made for serial consoles never say a word of that on the firmware's port, and are
//! left alone. On the console itself a `login:` is answered, and a bare shell's prompt is as good.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::lab::console::Console;

/// Between looks at both consoles.
const LOOK: Duration = Duration::from_millis(100);
/// A prompt has been shown whole when so long nothing followed.
const SETTLED: Duration = Duration::from_millis(700);
/// A console that is silent for so long may wait for a key; a kernel's line may have hidden its prompt.
const SILENT: Duration = Duration::from_secs(25);
/// The loader echoes what is typed by then.
const ECHO: Duration = Duration::from_secs(10);
/// The BIOS keeps 15 keys (the buffer at 0040:001e).
const KEYS: usize = 8;
const TRIES: usize = 5;
/// A password that came too early is given again.
const LOGINS: usize = 3;
const ESCAPE: &[u8] = b"\x1b";
/// Ctrl-U: the loader forgets the line (libsa's ngets).
const KILL: &[u8] = b"\x15";

/// What the loader is told. The kernel takes the console that `boot_serial` asks for where the hints of the image mark a port as fit
/// for it, and else the one that is named.
const SETTINGS: &[&str] = &[
    "set boot_serial=YES",
    "set hw.uart.console=io:0x3f8,br:115200",
];

/// Who logs in.
#[derive(Clone, Debug)]
pub struct Login {
    /// The user.
    pub user: String,
    /// Official images ask for none.
    pub password: Option<String>,
}

/// Goes on until `console` is at the prompt of a root shell. Both consoles are looked at from the positions `since` on.
pub fn boot(
    firmware: &Console,
    console: &Console,
    since: (u64, u64),
    login: &Login,
    patience: Duration,
) -> Result<()> {
    let deadline = Instant::now() + patience;
    let (firmware_since, mut seen) = since;
    let mut loader_done = false;
    let mut answered = 0;
    let mut refused = 0;
    let mut nudged = Instant::now();
    while Instant::now() < deadline {
        if !loader_done && waits_for_a_key(&squeezed(&firmware.since(firmware_since))) {
            command_loader(firmware)?;
            loader_done = true;
        }
        if firmware.has_ended() || console.has_ended() {
            bail!("it has ended{}", console.tail());
        }
        let text = console.since(seen);
        if let Some(trouble) = trouble(&text) {
            bail!("{trouble}{}", console.tail());
        }
        let settled = console.silence() >= SETTLED;
        let asked = prompt(&text, settled);
        if asked == Some(Prompt::Login) && text.contains("Login incorrect") {
            refused += 1;
            if refused == LOGINS || login.password.is_none() {
                bail!(
                    "the image does not take this login: another --password?{}",
                    console.tail()
                );
            }
        }
        match asked {
            Some(Prompt::Shell) => return Ok(()),
            Some(prompt) => {
                answered += 1;
                if answered > 12 {
                    bail!("it asks the same again and again{}", console.tail());
                }
                seen = console.position();
                answer(prompt, console, login)?;
                nudged = Instant::now();
            }
            None if console.silence() > SILENT && nudged.elapsed() > SILENT && !text.is_empty() => {
                console.send(b"\r")?;
                nudged = Instant::now();
            }
            None => {
                // Woken by whatever comes, or at the next look.
                let position = console.position();
                console.look(position, Instant::now() + LOOK, |new| {
                    (!new.is_empty()).then_some(())
                })?;
            }
        }
    }
    bail!(
        "no login and no shell within {patience:?}; the firmware's console{}\nand the console{}",
        firmware.tail(),
        console.tail()
    )
}

/// Where a person would type now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Prompt {
    Login,
    Password,
    Shell,
    Loader,
    /// The installer asks what kind of terminal this is.
    Terminal,
    /// The installer asks what to do: install, shell, live system.
    Installer,
}

fn answer(prompt: Prompt, console: &Console, login: &Login) -> Result<()> {
    match prompt {
        Prompt::Login => console.send(format!("{}\r", login.user).as_bytes()),
        Prompt::Password => match &login.password {
            Some(password) => console.send(format!("{password}\r").as_bytes()),
            None => bail!(
                "the image asks for a password of {}: give it with --password",
                login.user
            ),
        },
        Prompt::Loader => console.send(b"boot\r"),
        Prompt::Terminal => console.send(b"\r"),
        Prompt::Installer => console.send(b"s"),
        Prompt::Shell => Ok(()),
    }
}

fn prompt(text: &str, settled: bool) -> Option<Prompt> {
    if !settled {
        return None;
    }
    let lines = || text.lines().map(str::trim);
    // Behind these the kernel may have said something since.
    if lines()
        .any(|line| line == "login:" || line.ends_with(" login:") && !line.starts_with("Last "))
    {
        return Some(Prompt::Login);
    }
    // What is typed before the terminal has been told to be quiet is thrown away.
    if lines().any(|line| line == "Password:") {
        return Some(Prompt::Password);
    }
    if lines().any(|line| line.starts_with("Console type [")) {
        return Some(Prompt::Terminal);
    }
    if text.contains("begin an installation") {
        return Some(Prompt::Installer);
    }
    let last = text.rsplit('\n').next().unwrap_or("");
    if last.trim() == "OK" {
        return Some(Prompt::Loader);
    }
    let is_shell = last.len() < 100 && ["# ", "% ", "$ "].iter().any(|end| last.ends_with(end));
    is_shell.then_some(Prompt::Shell)
}

/// What no waiting mends.
fn trouble(text: &str) -> Option<&'static str> {
    let starts = |word: &str| text.lines().any(|line| line.trim_start().starts_with(word));
    if starts("panic:") || starts("Fatal trap") {
        Some("the kernel has panicked")
    } else if starts("mountroot>") {
        Some("the kernel does not find its root file system")
    } else if text.contains("Enter full pathname of shell") {
        Some(
            "the image comes up in single-user mode only: its file system needs a repair, or it is no complete system",
        )
    } else if text.contains("No bootable device") {
        Some("the BIOS finds nothing to boot in the image")
    } else {
        None
    }
}

/// A BIOS screen on a serial port repeats itself and moves its cursor in the middle of words; what is left without blanks can be
/// compared.
fn squeezed(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic()).collect()
}

/// Whether the loader counts down, by its menu (lua and forth, old and new) or without one.
fn waits_for_a_key(squeezed: &str) -> bool {
    [
        "Autobootin",
        "toboot,oranyother",
        "[Space]topause",
        "Hit[Enter]toboot",
    ]
    .iter()
    .any(|words| squeezed.contains(words))
}

/// Leaves the loader's menu for its prompt, and boots with the console on the serial port.
fn command_loader(firmware: &Console) -> Result<()> {
    firmware.send(ESCAPE)?;
    let start = firmware.position();
    let mut escaped = Instant::now();
    let deadline = escaped + 3 * ECHO;
    let at_prompt = loop {
        let until = (escaped + ECHO / 2).min(deadline);
        let found = firmware.look(start, until, |text| {
            squeezed(text).ends_with("OK").then_some(())
        })?;
        if found.is_some() {
            break true;
        }
        if Instant::now() >= deadline {
            break false;
        }
        // The menu of old loaders has numbers only, and takes any key for "stop".
        firmware.send(b"3")?;
        escaped = Instant::now();
    };
    if !at_prompt {
        // A prompt that was missed is still one: the echo decides.
        firmware.send(b"\r")?;
    }
    for setting in SETTINGS {
        type_line(firmware, setting)?;
    }
    type_line(firmware, "boot")
}

/// Types a line, waiting for the echo of each few characters.
fn type_line(firmware: &Console, line: &str) -> Result<()> {
    'again: for _ in 0..TRIES {
        firmware.send(KILL)?;
        let mut typed = String::new();
        let start = firmware.position();
        for keys in line.as_bytes().chunks(KEYS) {
            firmware.send(keys)?;
            typed.push_str(&squeezed(&String::from_utf8_lossy(keys)));
            let echoed = firmware.look(start, Instant::now() + ECHO, |text| {
                squeezed(text).ends_with(&typed).then_some(())
            })?;
            if echoed.is_none() {
                continue 'again;
            }
        }
        return firmware.send(b"\r");
    }
    bail!("the loader does not take `{line}`{}", firmware.tail())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::console::Fake;

    const SOON: Duration = Duration::from_secs(60);

    fn root() -> Login {
        Login {
            user: "root".into(),
            password: None,
        }
    }

    /// Says nothing, like the firmware's port of an image with a serial console.
    fn silent() -> Console {
        Fake::play(|fake| {
            fake.typed("never");
        })
    }

    const MOTD: &str = "Last login: Mon Nov 16 12:00:00 on ttyu0\r\nFreeBSD 12.1-STABLE GENERIC\r\n\r\nWelcome to FreeBSD!\r\n\r\n";

    #[test]
    fn an_image_with_a_serial_console_just_logs_in() {
        let console = Fake::play(|fake| {
            fake.say("\x1b[23;04HAutoboot in 10 seconds, hit [Enter] to boot or any other key to stop     \r\n");
            fake.say("Loading kernel...\r\n---<<BOOT>>---\r\nroot@releng: FreeBSD # \r\nmce0: link state changed to UP\r\n");
            fake.say("\r\nFreeBSD/amd64 (freebsd) (ttyu0)\r\n\r\nlog");
            fake.say("in: ");
            assert_eq!(fake.typed("root\n"), "");
            fake.say("root\r\n");
            fake.say(MOTD);
            fake.say("\x1b]0;freebsd\x07root@freebsd:~ # ");
            fake.typed("never");
        });
        boot(&silent(), &console, (0, 0), &root(), SOON).unwrap();
    }

    #[test]
    fn the_loader_is_told_of_the_console_and_its_screen_is_torn() {
        let firmware = Fake::play(|fake| {
            // As SeaBIOS shows what 12.1's loader draws.
            fake.say("\x1bc\x1b[?7l\x1b[2J\x1b[0mSeaBIOS (version 1.17.0)\r\n-\x08\\\x08|\x08");
            fake.say("FreeBSD/x8 \x1b[09;11H6 bootstrap loader, Revision 1.1 \r \r\n");
            fake.say(" \r\x1b[23;04HAutoboo \x1b[23;11Ht in 9 seconds, hit [Enter] to boot or any other key to stop      \r \r\n");
            fake.typed("\x1b");
            fake.say("\x1b[25;1HExiting menu!\r\nOK ");
            for line in [
                "set boot_serial=YES\n",
                "set hw.uart.console=io:0x3f8,br:115200\n",
                "boot\n",
            ] {
                fake.typed_with_echo(line);
                fake.say("OK ");
            }
            fake.say("Loading kernel...\r\n");
            fake.typed("never");
        });
        let console = Fake::play(|fake| {
            fake.say("FreeBSD 12.1-STABLE\r\n\r\nFreeBSD/amd64 (freebsd) (ttyu0)\r\n\r\nlogin: ");
            fake.typed("root\n");
            fake.say(MOTD);
            fake.say("root@freebsd:~ # ");
            fake.typed("never");
        });
        boot(&firmware, &console, (0, 0), &root(), SOON).unwrap();
    }

    #[test]
    fn a_bare_shell_needs_no_login() {
        let console = Fake::play(|fake| {
            fake.say("mlx5_core0: <mlx5_core> mem 0xfe000000-0xffffffff at device 0.0\r\nINIT RUNNING\r\n# ");
            fake.typed("never");
        });
        boot(&silent(), &console, (0, 0), &root(), SOON).unwrap();
    }

    #[test]
    fn a_kernels_line_behind_the_prompt_does_not_hide_it() {
        let console = Fake::play(|fake| {
            fake.say("\r\nlogin: mce0: link state changed to UP\r\nlogin: ");
            fake.typed("root\n");
            fake.say("# ");
            fake.typed("never");
        });
        boot(&silent(), &console, (0, 0), &root(), SOON).unwrap();
    }

    #[test]
    fn a_password_is_given_or_asked_for() {
        let ask = || {
            Fake::play(|fake| {
                fake.say("\r\nlogin: ");
                fake.typed("root\n");
                fake.say("root\r\nPassword:");
                fake.typed("secret\n");
                fake.say("\r\nroot@freebsd:~ # ");
                fake.typed("never");
            })
        };
        let error = boot(&silent(), &ask(), (0, 0), &root(), SOON).unwrap_err();
        assert!(error.to_string().contains("--password"), "{error}");
        let login = Login {
            password: Some("secret".into()),
            ..root()
        };
        boot(&silent(), &ask(), (0, 0), &login, SOON).unwrap();
        let late = Fake::play(|fake| {
            fake.say("\r\nlogin: ");
            fake.typed("root\n");
            fake.say("root\r\nPassword:");
            fake.typed("secret\n");
            fake.say("secret\r\nLogin incorrect\r\nlogin: ");
            fake.typed("root\n");
            fake.say("root\r\nPassword:");
            fake.typed("secret\n");
            fake.say("\r\nroot@freebsd:~ # ");
            fake.typed("never");
        });
        boot(&silent(), &late, (0, 0), &login, SOON).unwrap();
    }

    #[test]
    fn trouble_is_told_at_once() {
        for (said, wanted) in [
            (
                "\r\nlogin: root\r\nPassword:\r\nLogin incorrect\r\nlogin: ",
                "another --password",
            ),
            ("\r\npanic: mlx5\r\ncpuid = 0\r\ndb> ", "panicked"),
            (
                "Mounting from ufs:/dev/x failed with error 19.\r\n\r\nmountroot> ",
                "root file system",
            ),
            (
                "Enter full pathname of shell or RETURN for /bin/sh: ",
                "single-user",
            ),
        ] {
            let console = Fake::play(move |fake| {
                fake.say(said);
                fake.typed("never");
            });
            let started = Instant::now();
            let error = boot(&silent(), &console, (0, 0), &root(), SOON).unwrap_err();
            assert!(error.to_string().contains(wanted), "{error}");
            assert!(started.elapsed() < SOON / 2);
        }
    }

    #[test]
    fn a_guest_that_never_prompts_is_given_up_with_its_last_words() {
        let console = Fake::play(|fake| {
            fake.say("Booting...\r\n");
            fake.typed("never");
        });
        let error = boot(
            &silent(),
            &console,
            (0, 0),
            &root(),
            Duration::from_millis(300),
        )
        .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("no login") && text.contains("Booting..."),
            "{text}"
        );
    }

    #[test]
    fn prompts_are_not_found_in_other_lines() {
        assert_eq!(prompt("Last login: Mon Nov 16 on ttyu0\n", true), None);
        assert_eq!(prompt("user login: ", true), Some(Prompt::Login));
        assert_eq!(prompt("100% \n", true), None);
        assert_eq!(prompt("root@freebsd:~ # ", false), None);
        assert_eq!(prompt("OK ", true), Some(Prompt::Loader));
        assert_eq!(
            prompt("Console type [vt100]: ", true),
            Some(Prompt::Terminal)
        );
    }

    #[test]
    fn every_loaders_countdown_is_known() {
        for line in [
            // stand/lua/menu.lua of 12 and 13, of 14, stand/forth/menu.4th, stand/common/boot.c.
            "Autoboot in 10 seconds, hit [Enter] to boot or any other key to stop",
            "Autoboot in 10 seconds. [Space] to pause",
            "Hit [Enter] to boot immediately, or any other key for command prompt.",
        ] {
            assert!(waits_for_a_key(&squeezed(line)), "{line}");
        }
        assert!(!waits_for_a_key(&squeezed("Booting from Hard Disk...")));
    }
}
