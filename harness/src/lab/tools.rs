//! Reads what the tools in the guests print: ping, ibv_devinfo, the pingpongs of ibverbs-utils, and perftest.
//!
//! Each parser takes the text and gives the figure that matters, or says what is wrong with the text.

use anyhow::{Context, Result, bail};

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
}
