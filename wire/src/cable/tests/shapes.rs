//! Rate, queue, marks and pauses.

use super::*;

#[test]
fn a_slow_wire_takes_its_time_marks_and_drops() {
    let shape = "[[shape]]\nname = \"s\"\ndirection = \"tx\"\nrate = \"1Gbit/s\"\nlatency = \"10us\"\n\
                 queue = 1000\necn = 500\n";
    let mut world = world(shape);
    // 158 bytes and 24 of overhead are 1456 ns.
    let mut out = Vec::new();
    for n in 0..9 {
        out.extend(world.tx(us(0), send(n)));
    }
    assert!(out.is_empty());
    let mut left = Vec::new();
    while let Some(due) = world.cable.poll_timeout() {
        let frame = world.cable.poll_transmit(due).expect("what is due");
        let ecn = frame.parse_roce().unwrap().address.l3.ecn();
        left.push((due.0, psn(&frame), ecn));
    }
    let expected: Vec<(u64, u32, u8)> = (0..5)
        .map(|n| {
            (
                1456 * (u64::from(n) + 1) + 10_000,
                n,
                if n < 3 { 2 } else { 3 },
            )
        })
        .collect();
    assert_eq!(left, expected);
    let counters = world.counters();
    assert_eq!((counters.queue_drops, counters.ecn_marks), (4, 2));
    // The other direction is as fast as ever.
    assert!(world.cable.receive(us(0), send(1), &()).is_some());
}

/// Pause frames by what the queue holds: asked for at XOFF, again while that lasts, and ended at XON.
#[test]
fn a_queue_asks_its_sender_to_pause() {
    let mut world = world(
        "[[shape]]\nname = \"s\"\ndirection = \"tx\"\nrate = \"1Gbit/s\"\nqueue = 100_000\nxoff = 10_000\nxon = 4_000\npfc = [3]\n",
    );
    let asked = |world: &mut World, at: u64| -> Option<u16> {
        let frame = world.cable.poll_receive(us(at))?;
        let mut bytes = Vec::new();
        frame.to_bytes(&mut bytes).unwrap();
        assert_eq!(bytes[12..18], [0x88, 8, 1, 1, 0, 8]);
        Some(u16::from_be_bytes([bytes[24], bytes[25]]))
    };
    // Of 158 bytes each, 1456 ns with what is around them: the 56th finds more than 10000 bytes.
    for n in 0..80 {
        world.cable.transmit(us(1), send(n), &());
        assert!(n > 50 || world.cable.poll_receive(us(1)).is_none(), "{n}");
    }
    assert_eq!(asked(&mut world, 1), Some(0xffff));
    assert_eq!(asked(&mut world, 1), None);
    let due = world.cable.poll_timeout().unwrap();
    assert!(due <= us(41), "{due:?}");
    assert_eq!(asked(&mut world, 41), Some(0xffff), "again");
    // 80 frames are 116 us; 4000 bytes are 32 us of them.
    assert_eq!(asked(&mut world, 80), None);
    assert_eq!(asked(&mut world, 86), Some(0));
    assert_eq!(asked(&mut world, 200), None);
    assert_eq!(world.counters().pauses, 3);
    assert_eq!(world.counters().queue_drops, 0);
}

#[test]
fn pauses_that_make_no_sense_are_refused() {
    let wrong = |more: &str| {
        let text = format!("[[shape]]\nname = \"s\"\nlatency = \"1us\"\n{more}\n");
        text.parse::<Rules>().unwrap_err().to_string()
    };
    let tx = "direction = \"tx\"\nrate = \"1Gbit/s\"";
    for (more, why) in [
        (
            "direction = \"tx\"\nxoff = 1000".to_owned(),
            "needs a 'rate'",
        ),
        (
            "rate = \"1Gbit/s\"\nxoff = 1000".to_owned(),
            "direction = \"tx\"",
        ),
        (format!("{tx}\nxoff = 2_000_000"), "never reached"),
        (format!("{tx}\nxoff = 1000\nxon = 1000"), "not less"),
        (format!("{tx}\nxon = 1000"), "needs an 'xoff'"),
        (format!("{tx}\nxoff = 1000\npfc = []"), "names no priority"),
        (format!("{tx}\nxoff = 1000\npfc = 8"), "7"),
    ] {
        let error = wrong(&more);
        assert!(error.contains(why), "{more}: {error}");
    }
}
