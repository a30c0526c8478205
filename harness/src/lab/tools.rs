//! Reads what the tools in the guests print: ping, ibv_devinfo, the pingpongs of ibverbs-utils, perftest, iperf3, rping, ethtool.
//!
//! Each parser takes the text and gives the figure that matters, or says what is wrong with the text.

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// `rtt min/avg/max/mdev = 0.1/0.2/0.3/0.0 ms`, of a ping that lost nothing: the average in ms.
pub fn ping(text: &str) -> Result<f64> {
    let summary = text
        .lines()
        .find(|line| line.contains("packet loss"))
        .context("ping printed no summary")?;
    if !summary.contains(" 0% packet loss") {
        bail!("{}", summary.trim());
    }
    text.lines()
        .find_map(|line| line.strip_prefix("rtt "))
        .and_then(|line| line.split_once('='))
        .and_then(|(_, values)| values.trim().split('/').nth(1))
        .and_then(|average| average.parse().ok())
        .context("ping printed no round-trip times")
}

/// A field of `ibv_devinfo`, such as `state` or `fw_ver`, of the first device or port that has it.
pub fn devinfo<'a>(text: &'a str, field: &str) -> Option<&'a str> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.trim() == field)
        .map(|(_, value)| value.trim())
}

/// `4096000 bytes in 0.50 seconds = 65.54 Mbit/sec`, of a pingpong that found all data as sent: the rate in Mbit/s.
pub fn pingpong(text: &str) -> Result<f64> {
    if let Some(line) = text.lines().find(|line| line.contains("invalid data")) {
        bail!("{}", line.trim());
    }
    text.lines()
        .find(|line| line.contains(" bytes in "))
        .and_then(|line| line.split_once('='))
        .and_then(|(_, rate)| rate.trim().strip_suffix("Mbit/sec"))
        .and_then(|rate| rate.trim().parse().ok())
        .with_context(|| format!("no rate in: {}", last_line(text)))
}

/// The average bandwidth in MiB/s from the row for messages of `size` bytes: size, iterations, peak, average, message rate.
pub fn bandwidth(text: &str, size: u32) -> Result<f64> {
    row(text, size, "BW average")?
        .get(3)
        .copied()
        .context("the row of figures is too short")
}

/// The median and average latency in µs from the row for messages of `size` bytes: size, iterations, min, max, typical, average…
pub fn latency(text: &str, size: u32) -> Result<(f64, f64)> {
    match row(text, size, "t_typical")?[..] {
        [_, _, _, _, typical, average, ..] => Ok((typical, average)),
        _ => bail!("the row of figures is too short"),
    }
}

/// The row of perftest's table, below a header with `column`, that is about messages of `size` bytes.
fn row(text: &str, size: u32, column: &str) -> Result<Vec<f64>> {
    text.lines()
        .skip_while(|line| !line.contains(column))
        .skip(1)
        .map(|line| {
            line.split_whitespace()
                .map_while(|word| word.parse().ok())
                .collect::<Vec<f64>>()
        })
        .find(|row| row.first() == Some(&f64::from(size)))
        .with_context(|| format!("no figures in: {}", last_line(text)))
}

/// What `iperf3 --json` tells of one direction of a test.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stream {
    /// Payload bytes that the sender wrote.
    pub sent: u64,
    /// Payload bytes that the receiver had read when the test ended. What was still on its way does not count.
    pub received: u64,
    /// Bits per second at the receiver.
    pub rate: f64,
    /// Segments that TCP sent again.
    pub retransmits: u64,
    /// Datagrams sent.
    pub datagrams: u64,
    /// Datagrams missed between others.
    pub lost: u64,
    /// Datagrams that came after a later one.
    pub out_of_order: u64,
}

/// The directions of a test from the text of `iperf3 --json`, that of a bidirectional one towards the client being the second.
pub fn iperf3(text: &str) -> Result<Vec<Stream>> {
    let start = text.find('{').context("iperf3 printed no JSON")?;
    let all: Value = serde_json::from_str(&text[start..]).context("iperf3 printed bad JSON")?;
    if let Some(error) = all["error"].as_str() {
        bail!("{error}");
    }
    let end = &all["end"];
    // Of all streams: iperf3 does not add them up.
    let out_of_order = end["streams"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|stream| stream["udp"]["out_of_order"].as_u64())
        .sum();
    let direction = |suffix: &str| {
        let sent = &end[format!("sum_sent{suffix}")];
        let received = &end[format!("sum_received{suffix}")];
        let number = |of: &Value, name: &str| of[name].as_u64().unwrap_or(0);
        Some(Stream {
            sent: sent["bytes"].as_u64()?,
            received: received["bytes"].as_u64()?,
            rate: received["bits_per_second"].as_f64()?,
            retransmits: number(sent, "retransmits"),
            datagrams: number(sent, "packets"),
            lost: number(received, "lost_packets"),
            out_of_order,
        })
    };
    let streams: Vec<Stream> = ["", "_bidir_reverse"]
        .into_iter()
        .filter_map(direction)
        .collect();
    if streams.is_empty() {
        bail!("iperf3 printed no sums");
    }
    Ok(streams)
}

/// How many pings `rping -v` printed, of an end that saw the data that it had to.
pub fn rping(text: &str) -> Result<usize> {
    if let Some(line) = text
        .lines()
        .find(|line| line.contains("error") || line.contains("fail"))
    {
        bail!("{}", line.trim());
    }
    match text
        .lines()
        .filter(|line| line.contains("ping data:"))
        .count()
    {
        0 => bail!("no data in: {}", last_line(text)),
        count => Ok(count),
    }
}

/// The lines `name: value` of ethtool's output, without the heads of paragraphs.
pub fn fields(text: &str) -> Vec<(&str, &str)> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim(), value.trim()))
        .filter(|(_, value)| !value.is_empty())
        .collect()
}

/// The features in `ethtool --show-features` that can be changed, and whether each is on. Those that stand for groups of others
/// are left out where the others are listed.
pub fn features(text: &str) -> Vec<(String, bool)> {
    let lines: Vec<&str> = text.lines().collect();
    let is_head = |at: usize| {
        let member = |line: &&str| line.starts_with(char::is_whitespace);
        lines.get(at).is_some_and(|line| !member(line)) && lines.get(at + 1).is_some_and(member)
    };
    lines
        .iter()
        .enumerate()
        .filter(|(at, _)| !is_head(*at))
        .filter_map(|(_, line)| line.trim().split_once(": "))
        .filter_map(|(name, state)| match state {
            "on" => Some((name.to_owned(), true)),
            "off" => Some((name.to_owned(), false)),
            _ => None,
        })
        .collect()
}

fn last_line(text: &str) -> &str {
    text.lines()
        .rev()
        .find(|line| line.contains(|c: char| c.is_alphanumeric()))
        .unwrap_or("(nothing)")
        .trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: &str = "PING 192.0.2.2 (192.0.2.2) 56(84) bytes of data.\n\n--- 192.0.2.2 ping statistics ---\n\
        20 packets transmitted, 20 received, 0% packet loss, time 1922ms\nrtt min/avg/max/mdev = 0.310/0.525/1.990/0.360 ms\n";

    #[test]
    fn ping_counts_only_without_loss() {
        assert_eq!(ping(PING).unwrap(), 0.525);
        let lossy = PING.replace(" 0% packet", " 10% packet");
        assert!(
            ping(&lossy)
                .unwrap_err()
                .to_string()
                .contains("10% packet loss")
        );
        assert!(ping("").is_err());
    }

    #[test]
    fn devinfo_fields_are_found() {
        let text = "hca_id:\tmlx5_0\n\tfw_ver:\t\t\t16.35.4506\n\t\tport:\t1\n\t\t\tstate:\t\t\tPORT_ACTIVE (4)\n";
        assert_eq!(devinfo(text, "state"), Some("PORT_ACTIVE (4)"));
        assert_eq!(devinfo(text, "fw_ver"), Some("16.35.4506"));
        assert_eq!(devinfo(text, "link_layer"), None);
    }

    #[test]
    fn pingpong_counts_only_with_the_right_data() {
        let text = "  local address:  LID 0x0000, QPN 0x000011\n8192000 bytes in 0.51 seconds = 128.30 Mbit/sec\n1000 iters in 0.51 seconds = 510.79 usec/iter\n";
        assert_eq!(pingpong(text).unwrap(), 128.3);
        let wrong = format!("{text}invalid data in page 0\n");
        assert_eq!(
            pingpong(&wrong).unwrap_err().to_string(),
            "invalid data in page 0"
        );
        let failed = pingpong("Failed status transport retry counter exceeded (12) for wr_id 2\n");
        assert!(
            failed
                .unwrap_err()
                .to_string()
                .contains("retry counter exceeded")
        );
    }

    const BANDWIDTH: &str = "\
---------------------------------------------------------------------------------------
                    RDMA_Write BW Test
 Mtu             : 4096[B]
 local address: LID 0000 QPN 0x0011 PSN 0x1d0e37 RKey 0x0002b7 VAddr 0x007f1b0c1f0000
---------------------------------------------------------------------------------------
 #bytes     #iterations    BW peak[MiB/sec]    BW average[MiB/sec]   MsgRate[Mpps]
 65536      1000             19.94              19.21              0.000307
---------------------------------------------------------------------------------------
";

    #[test]
    fn bandwidth_is_the_average() {
        assert_eq!(bandwidth(BANDWIDTH, 65536).unwrap(), 19.21);
        assert!(bandwidth(BANDWIDTH, 8).is_err());
        let error = bandwidth(" Completion with error at client\n", 65536).unwrap_err();
        assert!(
            error.to_string().contains("Completion with error"),
            "{error}"
        );
    }

    #[test]
    fn latency_is_the_median_and_the_average() {
        let text = " #bytes #iterations    t_min[usec]    t_max[usec]  t_typical[usec]    t_avg[usec]    t_stdev[usec]   99% percentile[usec]   99.9% percentile[usec] \n\
             8       1000          375.02         2100.11      612.40              647.25           90.10           900.00                 2100.11\n";
        assert_eq!(latency(text, 8).unwrap(), (612.4, 647.25));
        assert!(latency(BANDWIDTH, 65536).is_err());
    }

    #[test]
    fn iperf3_has_a_sum_for_each_direction() {
        let text = r#"warning: something
{"start": {}, "end": {"streams": [{"udp": {"out_of_order": 1}}, {"udp": {"out_of_order": 2}}],
 "sum_sent": {"bytes": 100, "bits_per_second": 9.0, "retransmits": 3, "packets": 10},
 "sum_received": {"bytes": 90, "bits_per_second": 8.5, "lost_packets": 1},
 "sum_sent_bidir_reverse": {"bytes": 7, "bits_per_second": 1.0},
 "sum_received_bidir_reverse": {"bytes": 7, "bits_per_second": 2.0}}}"#;
        let [forth, back] = iperf3(text).unwrap()[..] else {
            panic!("two directions");
        };
        let expected = Stream {
            sent: 100,
            received: 90,
            rate: 8.5,
            retransmits: 3,
            datagrams: 10,
            lost: 1,
            out_of_order: 3,
        };
        assert_eq!(forth, expected);
        assert_eq!((back.sent, back.received, back.rate), (7, 7, 2.0));
        let failed = iperf3(r#"{"start": {}, "error": "unable to connect to server"}"#);
        assert!(failed.unwrap_err().to_string().contains("unable"));
        assert!(iperf3("").is_err());
        assert!(iperf3("{}").is_err());
    }

    #[test]
    fn rping_counts_pings_with_data() {
        let text = "server ping data: rdma-ping-0: ABC\nserver ping data: rdma-ping-1: BCD\n";
        assert_eq!(rping(text).unwrap(), 2);
        assert!(rping("").is_err());
        assert!(rping(&format!("{text}data mismatch: error\n")).is_err());
    }

    #[test]
    fn changeable_features_are_found() {
        let text = "Features for eth0:\nrx-checksumming: on\ntx-checksumming: on\n\
            \ttx-checksum-ipv4: off [fixed]\n\ttx-checksum-ip-generic: on\n\
            large-receive-offload: off [fixed]\nntuple-filters: off\nloopback: off [requested on]\n";
        let expected = [
            ("rx-checksumming".to_owned(), true),
            ("tx-checksum-ip-generic".to_owned(), true),
            ("ntuple-filters".to_owned(), false),
        ];
        assert_eq!(features(text), expected);
    }

    #[test]
    fn fields_have_names_and_values() {
        let text = "Ring parameters for eth0:\nRX:\t\t8192\n\nspeed: 1: 2\n";
        assert_eq!(fields(text), [("RX", "8192"), ("speed", "1: 2")]);
    }
}
