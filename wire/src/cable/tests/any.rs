//! Any rules and any frames.

use super::*;

/// Rules of all kinds, from numbers.
fn any_rule() -> impl Strategy<Value = String> {
    let fields: Vec<&'static str> = FIELDS.iter().map(|field| field.name).collect();
    let condition = prop_oneof![
        Just(String::new()),
        (prop::sample::select(fields.clone()), any::<u16>())
            .prop_map(|(field, value)| format!("\"{field}\" = \"!= {value}\"")),
        (prop::sample::select(fields.clone()), any::<u16>())
            .prop_map(|(field, value)| format!("\"{field}\" = \"<= {value}\"")),
        Just("opcode = \"RC_*\"".to_owned()),
    ];
    let action = prop_oneof![
        Just("\"drop\"".to_owned()),
        Just("\"ecn-ce\"".to_owned()),
        Just("{ duplicate = 2 }".to_owned()),
        Just("{ delay = \"3us\", jitter = \"9us\" }".to_owned()),
        (1..5u32).prop_map(|n| format!("{{ reorder = {n} }}")),
        (1..32u32).prop_map(|n| format!("{{ corrupt = \"icrc\", bits = {n} }}")),
        (14..200u32).prop_map(|n| format!("{{ truncate = {n} }}")),
        (0..200u32).prop_map(|n| format!("{{ corrupt = {n}, icrc = \"repair\" }}")),
        Just("{ corrupt = \"random\", bits = 30, checksum = \"repair\" }".to_owned()),
        Just("{ corrupt = \"payload\", bits = 9 }".to_owned()),
        (prop::sample::select(fields), any::<u8>())
            .prop_map(|(field, n)| format!("{{ set = {{ \"{field}\" = {n} }} }}")),
        Just("{ forge = \"rnr-nak\", dest_qp = 5, deliver = true }".to_owned()),
        Just("{ forge = \"cnp\", dest_qp = 5 }".to_owned()),
    ];
    let per = prop::sample::select(vec!["all", "port", "flow"]);
    (condition, action, per, 1..4u32).prop_map(|(condition, action, per, every)| {
        format!(
            "match = {{ {condition} }}\naction = {action}\nper = \"{per}\"\nevery = {every}\n\
             direction = \"both\"\n"
        )
    })
}

proptest! {
    #[test]
    fn no_frame_panics_with_any_rules(
        rules in prop::collection::vec(any_rule(), 1..6),
        frames in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 0..220), 0..12usize, any::<u8>(), any::<bool>()),
            1..30,
        ),
    ) {
        // What makes no sense together was refused; the rest has to stand anything.
        let mut text = String::new();
        for (n, rule) in rules.iter().enumerate() {
            let more = format!("{text}[[rule]]\nname = \"r{n}\"\n{rule}");
            if more.parse::<Rules>().is_ok() {
                text = more;
            }
        }
        let mut world = world(&text);
        let mut now = us(0);
        for (bytes, shape, opcode, outwards) in frames {
            now += Duration::from_micros(1);
            let frame = match shape {
                // Something like RoCE, damaged at one place.
                0..4 => {
                    let mut bytes_of = Vec::new();
                    packet(&address(2), SEND, 7, 3).to_bytes(&mut bytes_of).unwrap();
                    bytes_of[42] = opcode;
                    if let [at, value, ..] = bytes[..] {
                        let len = bytes_of.len();
                        bytes_of[usize::from(at) % len] = value;
                    }
                    bytes_of.truncate(bytes.len().max(14));
                    Frame::from_buf(Buf::from_vec(bytes_of))
                }
                4..8 => {
                    let mut bytes = bytes;
                    let types = [0x800u16, 0x86dd, 0x8915, 0x8100];
                    if let Some(place) = bytes.get_mut(12..14) {
                        place.copy_from_slice(&types[shape - 4].to_be_bytes());
                    }
                    Frame::from_buf(Buf::from_vec(bytes))
                }
                8 => Frame::from_buf(Buf::from_vec(bytes)),
                _ => send(u32::from(opcode)),
            };
            let _ = if outwards {
                world.cable.transmit(now, frame, &())
            } else {
                world.cable.receive(now, frame, &())
            };
            while world.cable.poll_transmit(now).is_some() {}
            while world.cable.poll_receive(now).is_some() {}
        }
        now += Duration::from_secs(1);
        while world.cable.poll_transmit(now).is_some() {}
        while world.cable.poll_receive(now).is_some() {}
        prop_assert_eq!(world.cable.poll_timeout(), None, "something is held for ever");
    }

    #[test]
    fn disorder_loses_and_doubles_nothing(
        by in 1..6u32, every in 1..5u32, copies in 1..3u32, every_copy in 2..6u32, jitter in 1..50u32,
        seed: u32, frames in 1..60u32,
    ) {
        let text = format!(
            "[[rule]]\nname = \"a\"\nevery = {every}\naction = {{ reorder = {by}, timeout = \"20us\" }}\n\
             [[rule]]\nname = \"b\"\nevery = {every_copy}\naction = {{ duplicate = {copies}, delay = \"7us\" }}\n\
             [[rule]]\nname = \"c\"\nprobability = 0.5\nseed = {seed}\naction = {{ delay = \"1us\", jitter = \"{jitter}us\" }}\n\
             [[shape]]\nname = \"s\"\nrate = \"10Gbit/s\"\nlatency = \"2us\"\n"
        );
        let mut world = world(&text);
        let run = world.run(0..frames);
        let rules = world.control.rules();
        let doubled = rules.counters()[1].hits * u64::from(copies);
        prop_assert_eq!(run.len() as u64, u64::from(frames) + doubled);
        let mut seen = psns(&run);
        seen.sort_unstable();
        seen.dedup();
        prop_assert_eq!(seen, (0..frames).collect::<Vec<_>>());
    }
}
