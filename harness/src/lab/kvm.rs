//! Finds out whether /dev/kvm boots a stock kernel. Some nested set-ups have a device on which none does: it dies at an
//! instruction, or hangs without a word. So a kernel is booted there once per boot of the host, with short deadlines.

use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::cache::Cache;
use super::kernel::Kernel;
use super::progress::Progress;
use super::qemu::{Accelerator, Qemu};

/// The kernel's first line is out within a second where KVM works.
const FIRST_WORD: Duration = Duration::from_secs(5);
/// Its first process runs within three.
const UP: Duration = Duration::from_secs(12);

/// What the guest's init prints when it runs.
const MARK: &str = "rocinante-guest: up";

/// The accelerator that works here.
pub fn choose(
    cache: &Cache,
    qemu: &Qemu,
    kernel: &Kernel,
    root: &Path,
    progress: &Progress,
) -> Result<Accelerator> {
    if OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_err()
    {
        return Ok(Accelerator::Tcg);
    }
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let question = format!("{} {} {}", boot.trim(), qemu.version()?, kernel.release);
    let _lock = cache.lock("kvm")?;
    let path = cache.root().join("kvm");
    if let Some(works) = recall(&fs::read_to_string(&path).unwrap_or_default(), &question) {
        return Ok(works);
    }
    let step = progress.step("does /dev/kvm boot a kernel?");
    let verdict = probe(qemu, kernel, root)?;
    drop(step);
    let accelerator = match verdict {
        None => Accelerator::Kvm,
        Some(why) => {
            progress.say(&format!(
                "/dev/kvm does not boot a stock kernel ({why}): the guests are emulated"
            ));
            Accelerator::Tcg
        }
    };
    fs::write(&path, format!("{question}\n{accelerator:?}\n"))?;
    Ok(accelerator)
}

/// The answer kept from an earlier run, if it was to the same question.
fn recall(kept: &str, question: &str) -> Option<Accelerator> {
    let (asked, answer) = kept.trim_end().split_once('\n')?;
    [Accelerator::Kvm, Accelerator::Tcg]
        .into_iter()
        .find(|accelerator| asked == question && answer == format!("{accelerator:?}"))
}

/// Boots a kernel. The answer is why it did not, or `None` if it did.
fn probe(qemu: &Qemu, kernel: &Kernel, root: &Path) -> Result<Option<String>> {
    let folder = tempfile::tempdir()?;
    let console = folder.path().join("console");
    let said = folder.path().join("said");
    let errors = File::create(&said)?;
    let mut process = qemu
        .command()
        .args([
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-display",
            "none",
        ])
        .args(Accelerator::Kvm.arguments())
        .args(["-machine", "q35", "-m", "512M"])
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(root)
        .args([
            "-append",
            "console=ttyS0 earlyprintk=ttyS0 panic=-1 rocinante.probe",
        ])
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(errors)
        .spawn()
        .context("cannot start QEMU")?;
    let verdict = watch(&mut process, &console, &said);
    let _ = process.kill();
    let _ = process.wait();
    verdict
}

fn watch(process: &mut Child, console: &Path, said: &Path) -> Result<Option<String>> {
    let started = Instant::now();
    loop {
        let ended = process.try_wait()?;
        let printed = read(console);
        if printed.contains(MARK) {
            return Ok(None);
        }
        let errors = read(said);
        if let Some(line) = failure(&errors) {
            return Ok(Some(line.to_owned()));
        }
        if ended.is_some() {
            let last = errors.lines().chain(printed.lines()).last();
            return Ok(Some(format!(
                "QEMU ended: {}",
                last.unwrap_or("it said nothing")
            )));
        }
        let elapsed = started.elapsed();
        if elapsed > FIRST_WORD && printed.is_empty() {
            return Ok(Some(format!(
                "no word from it in {} s",
                FIRST_WORD.as_secs()
            )));
        }
        if elapsed > UP {
            return Ok(Some(format!("not up after {} s", UP.as_secs())));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// QEMU's words for a processor that stopped where it should not: it goes on running, paused.
fn failure(errors: &str) -> Option<&str> {
    errors
        .lines()
        .find(|line| line.contains("KVM internal error") || line.contains("KVM: entry failed"))
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_for_its_question_only() {
        let kept = "boot-1 QEMU 11 6.12\nTcg\n";
        assert_eq!(recall(kept, "boot-1 QEMU 11 6.12"), Some(Accelerator::Tcg));
        assert_eq!(recall(kept, "boot-2 QEMU 11 6.12"), None);
        assert_eq!(recall("", "boot-1"), None);
        assert_eq!(recall("q\nKvm", "q"), Some(Accelerator::Kvm));
        assert_eq!(recall("q\nXen", "q"), None);
    }

    #[test]
    fn a_processor_that_stopped_is_a_failure() {
        let said = "qemu: warning\nKVM internal error. Suberror: 1\nRAX=0\n";
        assert_eq!(failure(said), Some("KVM internal error. Suberror: 1"));
        assert_eq!(failure("qemu: warning: unused\n"), None);
    }

    fn sh(script: &str) -> Child {
        std::process::Command::new("sh")
            .args(["-c", script])
            .spawn()
            .unwrap()
    }

    #[test]
    fn a_boot_is_watched_to_its_mark_or_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let console = folder.path().join("console");
        let said = folder.path().join("said");
        let mut good = sh(&format!(
            "echo '{MARK}' >{}; exec sleep 60",
            console.display()
        ));
        assert_eq!(watch(&mut good, &console, &said).unwrap(), None);
        good.kill().unwrap();
        good.wait().unwrap();

        fs::write(&console, "").unwrap();
        let mut dead = sh("exit 1");
        let why = watch(&mut dead, &console, &said).unwrap().unwrap();
        assert!(why.starts_with("QEMU ended"), "{why}");
    }

    #[test]
    fn a_silent_boot_is_given_up_within_seconds() {
        let folder = tempfile::tempdir().unwrap();
        let mut silent = sh("exec sleep 60");
        let started = Instant::now();
        let why = watch(
            &mut silent,
            &folder.path().join("c"),
            &folder.path().join("s"),
        )
        .unwrap();
        silent.kill().unwrap();
        silent.wait().unwrap();
        assert_eq!(why.unwrap(), "no word from it in 5 s");
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}
