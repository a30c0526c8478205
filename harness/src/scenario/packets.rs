//! Counts packets of captures by tshark's display filters, and has it look at the filters before anything boots.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use super::expect::{Came, equals, verdict};
use super::model::{PacketsWanted, Scenario, Step};
use super::network;
use super::report::Check;
use super::run::Run;
use super::source::Mistake;
use crate::lab::{LabConfig, Progress, tshark};

/// A pcapng file with nothing in it: a Section Header Block of version 1.0 and unknown length.
const EMPTY: [u8; 28] = [
    0x0a, 0x0d, 0x0d, 0x0a, 28, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 28, 0, 0, 0,
];

/// What is wrong with the filters of these scenarios. Those with variables that only a run knows are not looked at.
pub fn check_filters(
    scenarios: &[Scenario],
    lab: &LabConfig,
    progress: &Progress,
) -> Result<Vec<Mistake>> {
    let mut mistakes: Vec<Mistake> = Vec::new();
    let mut looked_at: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut empty = tempfile::NamedTempFile::new()?;
    empty.write_all(&EMPTY)?;
    for scenario in scenarios {
        let mut known = scenario.variables.clone();
        for nic in &scenario.machines.nics {
            network::tell_plan(nic, &mut known);
        }
        for wanted in scenario.steps.iter().flat_map(|step| &step.expect.packets) {
            let Ok(filter) = wanted.filter.text(&known) else {
                continue;
            };
            if !looked_at.contains_key(&filter) {
                let found = count(empty.path(), &filter, lab, progress)?;
                looked_at.insert(filter.clone(), found.err());
            }
            let Some(Some(why)) = looked_at.get(&filter) else {
                continue;
            };
            let (line, column) = wanted.place;
            let mistake = Mistake {
                path: scenario.path.clone(),
                line,
                column,
                message: format!("not a display filter: {why}"),
            };
            // The scenarios of a matrix are of one file.
            if !mistakes.contains(&mistake) {
                mistakes.push(mistake);
            }
        }
    }
    Ok(mistakes)
}

/// How many packets of a file pass a filter; or what tshark has against it.
fn count(
    file: &Path,
    filter: &str,
    lab: &LabConfig,
    progress: &Progress,
) -> Result<Result<usize, String>> {
    let mut command = tshark(lab, progress)?;
    let output = command
        .arg("-n")
        .arg("-r")
        .arg(file)
        .args(["-Y", filter, "-T", "fields", "-e", "frame.number"])
        .stdin(Stdio::null())
        .output()
        .context("cannot run tshark")?;
    if output.status.success() {
        let numbers = String::from_utf8_lossy(&output.stdout);
        return Ok(Ok(numbers.lines().count()));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let mut lines = said.lines();
    let why = lines.find_map(|line| line.strip_prefix("tshark: "));
    match why {
        Some(why) => Ok(Err(why.to_owned())),
        None => bail!("tshark ended ({}): {}", output.status, said.trim()),
    }
}

impl Run<'_> {
    /// Whether as many packets as are wanted are in the capture that has ended.
    pub(super) fn of_packets(&self, step: &Step, wanted: &PacketsWanted, came: &Came) -> Check {
        let is = equals(&wanted.is.to_string());
        let name = format!("{}: packets /{}/ {is}", step.name, wanted.filter.source());
        match self.count_packets(wanted, came) {
            Ok(count) => verdict(
                name,
                wanted.is.holds(count as f64, &self.variables),
                &format!("it is {count}{}", wanted.is.explained(&self.variables)),
            ),
            Err(error) => Check::failed(name, format!("{error:#}"), Duration::ZERO),
        }
    }

    fn count_packets(&self, wanted: &PacketsWanted, came: &Came) -> Result<usize> {
        let ended = came.capture.as_ref().context("no capture was under way")?;
        let stats = &ended.stats;
        let missing = stats.dropped + stats.unreadable + stats.missed;
        if missing > 0 {
            bail!(
                "{missing} packets are missing from the capture, which could not be written fast enough: begin it later, or send less"
            );
        }
        let filter = wanted.filter.text(&self.variables);
        let filter = filter.map_err(|why| anyhow!(why))?;
        count(&ended.spec.path, &filter, &self.tools, &Progress::silent())?
            .map_err(|why| anyhow!("not a display filter: {why}"))
    }
}
