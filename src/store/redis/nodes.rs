//! Which nodes there are, so that something can be done on each of them.

use redis::{Cmd, Value, aio::ConnectionLike};

use super::{
    fault::Fault,
    script::{list, number},
};

const SLOTS: usize = 16_384;

/// For each primary a key that lies on it; a server that is no cluster is one.
pub(super) async fn keys<C>(connection: &C) -> Result<Vec<String>, Fault>
where
    C: ConnectionLike + Clone,
{
    let mut command = Cmd::new();
    command.arg("CLUSTER").arg("SLOTS");
    let answer: Result<Value, _> = command.query_async(&mut connection.clone()).await;
    let ranges = match answer.map_err(Fault::from) {
        Ok(answer) => list(answer).ok_or(Fault::Answer)?,
        // It is no cluster, or it is not for us to know; then there is one to ask.
        Err(Fault::Refused(_)) => Vec::new(),
        Err(fault) => return Err(fault),
    };
    let mut nodes = Vec::new();
    let mut keys = Vec::new();
    for range in ranges {
        let mut range = list(range).ok_or(Fault::Answer)?.into_iter();
        let (Some(first), Some(last), Some(primary)) = (range.next(), range.next(), range.next()) else {
            return Err(Fault::Answer);
        };
        let (first, last) = (number(&first).ok_or(Fault::Answer)?, number(&last).ok_or(Fault::Answer)?);
        if !nodes.contains(&primary) {
            nodes.push(primary);
            keys.push(key_between(first, last).ok_or(Fault::Answer)?);
        }
    }
    if keys.is_empty() {
        keys.push("0".to_owned());
    }
    Ok(keys)
}

/// A key in one of these slots.
fn key_between(first: usize, last: usize) -> Option<String> {
    (0..1_u32 << 20).map(|n| n.to_string()).find(|key| (first..=last).contains(&slot(key.as_bytes())))
}

/// The slot of a key without a hash tag: CRC-16/XMODEM.
fn slot(key: &[u8]) -> usize {
    let crc = key.iter().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 })
    });
    usize::from(crc) % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(slot(b"123456789"), 0x31c3);
        assert_eq!(slot(b"foo"), 12_182);
        for slot_wanted in (0..SLOTS).step_by(97) {
            let key = key_between(slot_wanted, slot_wanted).unwrap();
            assert_eq!(slot(key.as_bytes()), slot_wanted);
        }
    }
}
