//! Recorded commands and work queue entries: text files under `tests/vectors`.
//!
//! A record is a line `NAME: who sends it`, indented lines `in` and `out` with the bytes, and perhaps `times`:
//!
//! ```text
//! ALLOC_PD: mlx5_core/mlx5_pd.c mlx5_core_alloc_pd
//!  in 08000000 0*12
//!  out 0*8 00000001 0*4
//! ```
//!
//! Bytes are hexadecimal digits; `0*N` and `ff*N` are N equal bytes; lines without a key go on. `SQ`, `RQ`, `QP` and
//! `RECEIVE` with a queue's number are work queue entries, all other names are commands. `times N` is a command sent N
//! times; `step AT` says that its byte AT advances with each. `#` starts a comment.

use std::path::PathBuf;

/// What a record is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A command.
    Command,
    /// A send WQE of an Ethernet send queue.
    Sq(u32),
    /// A receive WQE of an Ethernet receive queue.
    Rq(u32),
    /// A send WQE of a QP.
    Qp(u32),
    /// A receive WQE of a QP.
    Receive(u32),
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it is.
    pub kind: Kind,
    /// As in the file.
    pub name: String,
    /// File and function of the driver.
    pub who: String,
    /// Input of a command, or a WQE.
    pub input: Vec<u8>,
    /// Output of a command.
    pub output: Vec<u8>,
    /// How often.
    pub times: usize,
    /// Byte that advances from time to time.
    pub step: Option<usize>,
    /// Where in the file.
    pub line: usize,
}

/// The records of `file` under `tests/vectors`.
///
/// # Panics
///
/// If it cannot be read or is malformed.
#[must_use]
pub fn load(file: &str) -> Vec<Record> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("vectors")
        .join(file);
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The records in a text.
pub fn parse(text: &str) -> Result<Vec<Record>, String> {
    let mut records: Vec<Record> = Vec::new();
    let mut out = false;
    for (line, number) in text.lines().zip(1..) {
        let say = |what: &str| format!("line {number}: {what}");
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if !line.starts_with(' ') {
            let (name, who) = line.split_once(": ").ok_or_else(|| say("no colon"))?;
            records.push(Record {
                kind: kind(name).ok_or_else(|| say("no queue number"))?,
                name: name.into(),
                who: who.into(),
                input: Vec::new(),
                output: Vec::new(),
                times: 1,
                step: None,
                line: number,
            });
            continue;
        }
        let record = records
            .last_mut()
            .ok_or_else(|| say("bytes of no record"))?;
        let mut tokens = line.split_whitespace().peekable();
        match tokens.peek() {
            Some(&"times") => {
                tokens.next();
                let times = tokens.next().and_then(|n| n.parse().ok());
                record.times = times.ok_or_else(|| say("no number"))?;
                if tokens.next() == Some("step") {
                    let at = tokens.next().and_then(integer);
                    record.step = Some(at.ok_or_else(|| say("no number"))? as usize);
                }
                continue;
            }
            Some(&"in") => out = false,
            Some(&"out") => out = true,
            _ => {}
        }
        if matches!(tokens.peek(), Some(&("in" | "out"))) {
            tokens.next();
        }
        let to = if out {
            &mut record.output
        } else {
            &mut record.input
        };
        for token in tokens {
            bytes(token, to).ok_or_else(|| say("not hexadecimal"))?;
        }
    }
    Ok(records)
}

fn kind(name: &str) -> Option<Kind> {
    let (word, number) = name.split_once(' ').unwrap_or((name, ""));
    Some(match word {
        "SQ" => Kind::Sq(integer(number)?),
        "RQ" => Kind::Rq(integer(number)?),
        "QP" => Kind::Qp(integer(number)?),
        "RECEIVE" => Kind::Receive(integer(number)?),
        _ => Kind::Command,
    })
}

fn integer(text: &str) -> Option<u32> {
    u32::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

fn bytes(token: &str, to: &mut Vec<u8>) -> Option<()> {
    if let Some((byte, count)) = token.split_once('*') {
        let byte = u8::from_str_radix(byte, 16).ok()?;
        let count: usize = count.parse().ok().filter(|count| *count <= 1 << 16)?;
        to.resize(to.len() + count, byte);
        return Some(());
    }
    if !token.is_ascii() || !token.len().is_multiple_of(2) {
        return None;
    }
    for at in (0..token.len()).step_by(2) {
        to.push(u8::from_str_radix(&token[at..at + 2], 16).ok()?);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_work_queue_entries() {
        let text = "# a comment\n\nCREATE_MKEY: a.c f\n in 0200 0*3\n    ff*2 01\n out 0*2\n times 3 step 0x17\n\
                    SQ 0x42: b.c g\n in 0a\n";
        let records = parse(text).unwrap();
        assert_eq!(records.len(), 2);
        assert_eq!(records[0].kind, Kind::Command);
        assert_eq!(records[0].who, "a.c f");
        assert_eq!(records[0].input, [2, 0, 0, 0, 0, 0xff, 0xff, 1]);
        assert_eq!(records[0].output, [0, 0]);
        assert_eq!((records[0].times, records[0].step), (3, Some(0x17)));
        assert_eq!(
            (records[1].kind.clone(), records[1].line),
            (Kind::Sq(0x42), 8)
        );
        assert_eq!(records[1].input, [0x0a]);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, problem) in [
            ("NOP\n", "line 1: no colon"),
            (" in 00\n", "line 1: bytes of no record"),
            ("NOP: f\n in 0x\n", "line 2: not hexadecimal"),
            ("NOP: f\n in 0*99999\n", "line 2: not hexadecimal"),
            ("NOP: f\n in 000\n", "line 2: not hexadecimal"),
            ("NOP: f\n times\n", "line 2: no number"),
            ("SQ: f\n", "line 1: no queue number"),
        ] {
            assert_eq!(parse(text), Err(problem.into()), "{text:?}");
        }
    }
}
