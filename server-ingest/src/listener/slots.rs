//! How many connections there are, of all and of each address.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Places for connections.
#[derive(Debug, Clone)]
pub(super) struct Slots(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    total: usize,
    per_address: Option<usize>,
    taken: Mutex<Taken>,
}

/// Bounded by the number of connections: an address without one is not in it.
#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// One place, given back when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<Inner>,
    address: IpAddr,
}

impl Slots {
    pub(super) fn new(total: usize, per_address: Option<usize>) -> Self {
        Self(Arc::new(Inner { total, per_address, taken: Mutex::default() }))
    }

    /// A place for a connection from `address`; the error is the reason why there is none.
    pub(super) fn take(&self, address: IpAddr) -> Result<Slot, &'static str> {
        let address = network(address);
        let mut taken = self.0.lock();
        if taken.all >= self.0.total {
            return Err("too_many");
        }
        let of_address = taken.by_address.get(&address).copied().unwrap_or_default();
        if self.0.per_address.is_some_and(|most| of_address >= most) {
            return Err("too_many_of_address");
        }
        taken.all += 1;
        taken.by_address.insert(address, of_address + 1);
        Ok(Slot { slots: Arc::clone(&self.0), address })
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.lock();
        taken.all -= 1;
        if let Some(of_address) = taken.by_address.get_mut(&self.address) {
            *of_address -= 1;
            if *of_address == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

/// What counts as one address: in IPv6 the network of 64 bits, since whoever has one address there has all of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address => address,
    }
}

#[cfg(test)]
mod tests;
