//! The temperature sensor of the chip, in units of 0.125 degrees Celsius.

/// There is nothing that heats up: 45 degrees.
const TEMPERATURE: u16 = 45 * 8;

/// A sensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sensor {
    /// The highest temperature is kept.
    pub keeps_maximum: bool,
    /// When to warn: never, once, always.
    pub event: u8,
    /// Thresholds of warnings: high, low.
    pub thresholds: (u16, u16),
    /// The temperature that somebody wants it to be.
    pub injected: Option<i16>,
}

impl Default for Sensor {
    fn default() -> Self {
        Sensor {
            keeps_maximum: false,
            event: 0,
            thresholds: (105 * 8, 95 * 8),
            injected: None,
        }
    }
}

impl Sensor {
    /// Temperature.
    pub fn temperature(&self) -> u16 {
        self.injected.map_or(TEMPERATURE, |given| given as u16)
    }

    /// Whether it is above the threshold.
    pub fn is_too_hot(&self) -> bool {
        let threshold = self.thresholds.0.min(i16::MAX as u16) as i16;
        self.injected.is_some_and(|given| given >= threshold)
    }

    /// Highest temperature since it was kept.
    pub fn maximum(&self) -> u16 {
        if self.keeps_maximum {
            self.temperature().max(TEMPERATURE)
        } else {
            0
        }
    }
}
