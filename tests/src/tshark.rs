//! What tshark, which knows nothing of us, reads in a capture.

use std::path::Path;

use rocinante_harness::lab::{self, LabConfig, Progress};

/// Separates fields; in no text of ours.
const BETWEEN: char = '\u{1f}';

/// The fields `names` of each packet of `capture` that the display filter picks; empty where a packet lacks one. Reading the
/// file gives no error or warning.
#[track_caller]
pub fn fields(capture: &Path, filter: &str, names: &[&str]) -> Vec<Vec<String>> {
    let mut tshark = lab::tshark(&LabConfig::default(), &Progress::shown())
        .unwrap_or_else(|error| panic!("tshark: {error:#}"));
    // Takes any short SEND payload for RPC-over-RDMA, and then finds it malformed.
    tshark.args(["--disable-protocol", "rpcordma", "-n"]);
    tshark.args(["-Y", filter, "-T", "fields", "-E"]);
    tshark.arg(format!("separator={BETWEEN}"));
    for name in names {
        tshark.args(["-e", name]);
    }
    let output = tshark.arg("-r").arg(capture).output().expect("tshark runs");
    let said = String::from_utf8_lossy(&output.stderr);
    let errors: Vec<&str> = said
        .lines()
        .filter(|line| !line.starts_with("Running as user"))
        .collect();
    assert!(
        output.status.success() && errors.is_empty(),
        "{}: {}: {errors:#?}",
        capture.display(),
        output.status
    );
    let text = String::from_utf8(output.stdout).expect("text");
    let packets = text.lines().map(|line| {
        let fields: Vec<String> = line.split(BETWEEN).map(str::to_owned).collect();
        assert_eq!(fields.len(), names.len(), "{line:?}");
        fields
    });
    packets.collect()
}

/// Numbers of the packets that it finds malformed.
#[track_caller]
pub fn malformed(capture: &Path) -> Vec<String> {
    let packets = fields(capture, "_ws.malformed", &["frame.number"]);
    packets.into_iter().flatten().collect()
}
