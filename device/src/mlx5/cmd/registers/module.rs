//! MCIA, the memory of the module, and the temperature sensors: MTCAP, MTMP.

use rocinante_firmware_cmd::mlx5::registers::management::{Mcia, Mtcap, Mtmp};

use super::{CmdError, MODULE_SIZE, SENSOR};
use crate::mlx5::core::Core;
use crate::mlx5::port::{Port, module};

/// `status` of MCIA.
mod status {
    pub const GOOD: u8 = 0;
    pub const NO_RESPONSE: u8 = 1;
    pub const NOT_CONNECTED: u8 = 3;
    pub const I2C_ERROR: u8 = 9;
}

/// Bytes that one access reads at most, 12 words; 32 are a feature that is not announced.
const MOST: usize = 48;

pub(super) fn read_mcia(core: &Core, data: &mut [u8]) -> Result<(), CmdError> {
    let mut mcia = Mcia::new(data);
    let mut window = [0; MOST];
    let start = usize::from(mcia.device_address());
    let size = usize::from(mcia.size());
    let asked = window.get_mut(..size).ok_or(MODULE_SIZE)?;
    let status = if mcia.module() != 0 {
        status::NOT_CONNECTED
    } else if mcia.i2c_device_address() != module::I2C_ADDRESS {
        status::NO_RESPONSE
    } else if start + size > module::LIMIT {
        status::I2C_ERROR
    } else {
        match module::memory(mcia.page_number(), core.config.mac) {
            Some(memory) => {
                asked.copy_from_slice(&memory[start..start + size]);
                status::GOOD
            }
            None => status::NO_RESPONSE,
        }
    };
    let mut whole = [0; 0x80];
    whole[..MOST].copy_from_slice(&window);
    mcia.set_status(status).set_data(&whole);
    Ok(())
}

/// Sensor 0 is the chip's.
const CHIP: u16 = 0;
const CHIP_NAME: &[u8; 8] = b"asic\0\0\0\0";
/// Module 0's: a cable has no thermometer, which reads as no temperature.
const MODULE: u16 = 64;
const MODULE_NAME: &[u8; 8] = b"Module0\0";

pub(super) fn read_mtcap(data: &mut [u8]) {
    Mtcap::new(data)
        .set_sensor_count(1)
        .set_sensor_map(1 << CHIP);
}

pub(super) fn read_mtmp(port: &Port, data: &mut [u8]) -> Result<(), CmdError> {
    let index = Mtmp::new(&*data).sensor_index();
    data.fill(0);
    let mut mtmp = Mtmp::new(data);
    mtmp.set_sensor_index(index);
    let name = match index {
        CHIP => {
            let sensor = &port.sensor;
            mtmp.set_temperature(sensor.temperature())
                .set_mte(sensor.keeps_maximum)
                .set_max_temperature(sensor.maximum())
                .set_tee(sensor.event)
                .set_temp_threshold_hi(sensor.thresholds.0)
                .set_temp_threshold_lo(sensor.thresholds.1);
            CHIP_NAME
        }
        MODULE => MODULE_NAME,
        _ => return Err(SENSOR),
    };
    let (hi, lo) = name.split_at(4);
    let word = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(0, |word, byte| word << 8 | u32::from(*byte))
    };
    mtmp.set_sensor_name_hi(word(hi))
        .set_sensor_name_lo(word(lo));
    Ok(())
}

pub(super) fn write_mtmp(port: &mut Port, data: &[u8]) -> Result<(), CmdError> {
    let mtmp = Mtmp::new(data);
    match mtmp.sensor_index() {
        CHIP => {
            port.sensor.keeps_maximum = mtmp.mte();
            port.sensor.event = mtmp.tee();
            port.sensor.thresholds = (mtmp.temp_threshold_hi(), mtmp.temp_threshold_lo());
            Ok(())
        }
        MODULE => Ok(()),
        _ => Err(SENSOR),
    }
}
