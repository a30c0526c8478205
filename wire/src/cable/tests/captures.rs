//! What a capture shows of a cable.

use super::*;

struct Sink(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// PSN, flags and comment of each packet of a capture.
fn captured(bytes: &[u8]) -> Vec<(u32, u32, String)> {
    use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption as Option_;
    let mut reader = pcap_file::pcapng::PcapNgReader::new(bytes).unwrap();
    let mut packets = Vec::new();
    while let Some(block) = reader.next_block() {
        let block = block.unwrap();
        if let pcap_file::pcapng::Block::InterfaceDescription(interface) = &block {
            assert!(format!("{:?}", interface.options).contains("lab/alice"));
        }
        let pcap_file::pcapng::Block::EnhancedPacket(packet) = block else {
            continue;
        };
        let frame = Frame::<Payloads>::from_buf(Buf::from_vec(packet.data.to_vec()));
        let (mut flags, mut comment) = (0, String::new());
        for option in &packet.options {
            match option {
                Option_::Flags(value) => flags = *value,
                Option_::Comment(text) => comment = text.to_string(),
                _ => {}
            }
        }
        packets.push((psn(&frame), flags, comment));
    }
    packets
}

#[test]
fn a_capture_shows_what_was_sent_and_what_was_delivered_with_the_cause() {
    let mut world = world(
        "[[rule]]\nname = \"lose\"\nmatch = { bth.psn = 2 }\naction = \"drop\"\n\
         [[rule]]\nname = \"break\"\nmatch = { bth.psn = 3 }\naction = { corrupt = \"icrc\" }\n\
         [[rule]]\nname = \"late\"\nmatch = { bth.psn = 3 }\naction = { delay = \"1us\" }\n\
         [[rule]]\nname = \"no\"\nmatch = { bth.psn = 4 }\naction = { forge = \"nak-invalid-request\" }\n",
    );
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let clock = || Duration::from_secs(1);
    let capture = Capture::start(Sink(Arc::clone(&bytes)), Box::new(clock)).unwrap();
    assert!(world.control.start_capture(capture, false).is_none());
    for n in 1..5 {
        let _ = world.cable.transmit(us(u64::from(n)), send(n), &Known);
    }
    assert!(world.cable.poll_receive(us(9)).is_some());
    // The other direction without comment is shown by the port where it comes from.
    assert!(world.cable.receive(us(9), send(100), &()).is_some());
    world.control.set_plugged("alice", false);
    assert!(world.cable.transmit(us(10), send(5), &()).is_none());
    let capture = world.control.stop_capture().expect("it runs");
    world.control.set_plugged("alice", true);
    assert!(world.cable.transmit(us(11), send(6), &()).is_some());
    assert_eq!(capture.finish().unwrap().written, 7);
    let text = |psn: u32, flags: u32, comment: &str| (psn, flags, comment.to_owned());
    let expected = [
        text(1, 2, ""),
        text(2, 2, "sent; rule 'lose': drop"),
        text(3, 2, "sent; rule 'break': corrupt"),
        // When the next frame came, it was due.
        text(3, 2, "delivered; rule 'break': corrupt; rule 'late': delay"),
        text(4, 2, "sent; rule 'no': forge nak-invalid-request"),
        text(4, 1, "forged; rule 'no': forge nak-invalid-request"),
        text(5, 2, "sent; lost: no carrier"),
    ];
    assert_eq!(captured(&bytes.lock().unwrap()), expected);
}

#[test]
fn a_port_can_show_both_directions_without_losing_its_references() {
    let mut world = world("");
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let clock = || Duration::from_secs(1);
    let capture = Capture::start(Sink(Arc::clone(&bytes)), Box::new(clock)).unwrap();
    world.control.start_capture(capture, true);
    let out = world.cable.receive(us(1), send(1), &()).unwrap();
    assert!(out.is_known_good());
    assert!(world.cable.transmit(us(1), send(2), &()).is_some());
    world.control.stop_capture().unwrap().finish().unwrap();
    let expected = [(1, 1, String::new()), (2, 2, String::new())];
    assert_eq!(captured(&bytes.lock().unwrap()), expected);
}

#[test]
fn a_capture_can_be_of_one_port_and_direction_and_tells_how_far_it_is() {
    let mut world = world("");
    let place = |port: &str| Place {
        links: vec!["lab".to_owned()],
        ports: vec![port.to_owned()],
        direction: Some(Direction::Rx),
    };
    for (port, expected) in [("bob", vec![]), ("al*", vec![(1, 1, String::new())])] {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let clock = || Duration::from_secs(1);
        let capture = Capture::start(Sink(Arc::clone(&bytes)), Box::new(clock)).unwrap();
        world.control.start_capture_at(capture, place(port));
        assert!(world.cable.receive(us(1), send(1), &()).is_some());
        assert!(world.cable.transmit(us(1), send(2), &()).is_some());
        let (stats, error) = world.control.capture_stats().expect("it runs");
        assert!(stats.written <= 1 && error.is_none());
        let capture = world.control.stop_capture().unwrap();
        assert!(world.control.capture_stats().is_none());
        let written = expected.len() as u64;
        assert_eq!(capture.finish().unwrap().written, written, "{port}");
        assert_eq!(captured(&bytes.lock().unwrap()), expected, "{port}");
    }
}
