//! Registers of the port's buffers: PPTB, PBMC, SBCAM, SBPR, SBCM.

use rocinante_firmware_cmd::mlx5::registers::port::{Pbmc, Pptb};
use rocinante_firmware_cmd::mlx5::registers::qos::{Sbcam, Sbcm, Sbpr};

use super::{BUFFER, BUFFER_SIZE, CmdError, GROUP, check_port};
use crate::mlx5::port::Port;
use crate::mlx5::port::buffers::{BUFFERS, Buffer, CELL, CELLS, POOLS, Pool, Share};

pub(super) fn read_pptb(port: &Port, data: &mut [u8]) -> Result<(), CmdError> {
    let mut pptb = Pptb::new(data);
    check_port(pptb.local_port())?;
    pptb.set_prio_x_buff(port.buffers.of_priority)
        .set_untagged_buff(port.buffers.of_untagged);
    Ok(())
}

pub(super) fn write_pptb(port: &mut Port, data: &[u8]) -> Result<(), CmdError> {
    let pptb = Pptb::new(data);
    check_port(pptb.local_port())?;
    let mut of_priority = port.buffers.of_priority;
    for priority in (0..8).filter(|priority| pptb.pm() >> priority & 1 == 1) {
        let shift = 4 * priority;
        let buffer = pptb.prio_x_buff() >> shift & 0xf;
        // The last two are internal.
        if buffer as usize >= BUFFERS - 2 {
            return Err(BUFFER);
        }
        of_priority = of_priority & !(0xf << shift) | buffer << shift;
    }
    port.buffers.of_priority = of_priority;
    if pptb.um() {
        port.buffers.of_untagged = pptb.untagged_buff();
    }
    Ok(())
}

pub(super) fn read_pbmc(port: &Port, data: &mut [u8]) -> Result<(), CmdError> {
    let local_port = Pbmc::new(&*data).local_port();
    check_port(local_port)?;
    data.fill(0);
    let mut pbmc = Pbmc::new(data);
    let (timer, refresh) = port.buffers.xoff_timer;
    pbmc.set_local_port(local_port)
        .set_xoff_timer_value(timer)
        .set_xoff_refresh(refresh)
        .set_port_buffer_size(CELLS);
    for (at, buffer) in port.buffers.buffers.iter().enumerate() {
        pbmc.buffer_mut()
            .get_mut(at)
            .set_lossy(buffer.lossy)
            .set_epsb(buffer.shared)
            .set_size(buffer.size)
            .set_xoff_threshold(buffer.xoff)
            .set_xon_threshold(buffer.xon);
    }
    Ok(())
}

pub(super) fn write_pbmc(port: &mut Port, data: &[u8]) -> Result<(), CmdError> {
    let pbmc = Pbmc::new(data);
    check_port(pbmc.local_port())?;
    let mut buffers = port.buffers;
    for (buffer, new) in buffers.buffers.iter_mut().zip(pbmc.buffer().iter()) {
        *buffer = Buffer {
            lossy: new.lossy(),
            shared: new.epsb(),
            size: new.size(),
            xoff: new.xoff_threshold(),
            xon: new.xon_threshold(),
        };
    }
    let sum: u32 = buffers.buffers.iter().map(|one| u32::from(one.size)).sum();
    let inside = |one: &Buffer| one.xoff <= one.size && one.xon <= one.xoff;
    if sum > u32::from(CELLS) || !buffers.buffers.iter().all(inside) {
        return Err(BUFFER_SIZE);
    }
    if pbmc.xoff_timer_value() != 0 {
        buffers.xoff_timer = (pbmc.xoff_timer_value(), pbmc.xoff_refresh());
    }
    port.buffers = buffers;
    Ok(())
}

/// Registers 0xb001 and 0xb002.
const SHARED_BUFFER_REGISTERS: u8 = 0b110;

pub(super) fn read_sbcam(data: &mut [u8]) -> Result<(), CmdError> {
    let mut sbcam = Sbcam::new(data);
    if sbcam.access_reg_group() != 0 || sbcam.feature_group() != 0 {
        return Err(GROUP);
    }
    let mut registers = [0; 0x10];
    registers[0xf] = SHARED_BUFFER_REGISTERS;
    sbcam
        .set_sb_access_reg_cap_mask(&registers)
        .set_sb_feature_cap_mask(&[0; 0x10]);
    sbcam
        .set_cap_total_buffer_size(u32::from(CELL) * u32::from(CELLS))
        .set_cap_cell_size(CELL)
        .set_cap_max_pg_buffers(BUFFERS as u8)
        .set_cap_num_pool_supported(POOLS as u8)
        .set_cap_max_tclass_data(8);
    Ok(())
}

fn pool(dir: u8, pool: u8) -> Result<(usize, usize), CmdError> {
    let (dir, pool) = (usize::from(dir), usize::from(pool));
    if dir < 2 && pool < POOLS {
        Ok((dir, pool))
    } else {
        Err(BUFFER)
    }
}

pub(super) fn read_sbpr(port: &Port, data: &mut [u8]) -> Result<(), CmdError> {
    let mut sbpr = Sbpr::new(data);
    let (dir, index) = pool(sbpr.dir(), sbpr.pool())?;
    let pool = port.buffers.pools[dir][index];
    sbpr.set_infi_size(pool.unlimited)
        .set_size(pool.size)
        .set_mode(pool.mode);
    sbpr.set_buff_occupancy(0)
        .set_max_buff_occupancy(0)
        .set_ext_buff_occupancy(0);
    Ok(())
}

pub(super) fn write_sbpr(port: &mut Port, data: &[u8]) -> Result<(), CmdError> {
    let sbpr = Sbpr::new(data);
    let (dir, index) = pool(sbpr.dir(), sbpr.pool())?;
    port.buffers.pools[dir][index] = Pool {
        size: sbpr.size(),
        unlimited: sbpr.infi_size(),
        mode: sbpr.mode(),
    };
    Ok(())
}

fn share(
    sbcm: &Sbcm<impl rocinante_firmware_cmd::layout::Bytes>,
) -> Result<(usize, usize), CmdError> {
    check_port(sbcm.local_port())?;
    let (dir, buffer) = (usize::from(sbcm.dir()), usize::from(sbcm.pg_buff()));
    if dir < 2 && buffer < BUFFERS {
        Ok((dir, buffer))
    } else {
        Err(BUFFER)
    }
}

pub(super) fn read_sbcm(port: &Port, data: &mut [u8]) -> Result<(), CmdError> {
    let mut sbcm = Sbcm::new(data);
    let (dir, index) = share(&sbcm)?;
    let share = port.buffers.shares[dir][index];
    sbcm.set_exc(false)
        .set_buff_occupancy(0)
        .set_max_buff_occupancy(0);
    sbcm.set_min_buff(share.min)
        .set_max_buff(share.max)
        .set_infi_max(share.unlimited)
        .set_pool(share.pool);
    Ok(())
}

pub(super) fn write_sbcm(port: &mut Port, data: &[u8]) -> Result<(), CmdError> {
    let sbcm = Sbcm::new(data);
    let (dir, index) = share(&sbcm)?;
    let (_, pool) = pool(sbcm.dir(), sbcm.pool())?;
    port.buffers.shares[dir][index] = Share {
        min: sbcm.min_buff(),
        max: sbcm.max_buff(),
        unlimited: sbcm.infi_max(),
        pool: pool as u8,
    };
    Ok(())
}
