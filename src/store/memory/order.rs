use crate::scope::Scope;

const NONE: u32 = u32::MAX;

/// Scopes in the order of their last use: a doubly linked list in one vector, so that
/// every step takes constant time and nothing is allocated for a scope that is already known.
pub(super) struct Order {
    nodes: Vec<Node>,
    front: u32,
    back: u32,
    free: u32,
    len: usize,
}

struct Node {
    scope: Scope,
    used: u64,
    before: u32,
    after: u32,
}

impl Default for Order {
    fn default() -> Self {
        Self { nodes: Vec::new(), front: NONE, back: NONE, free: NONE, len: 0 }
    }
}

impl Order {
    pub(super) fn with_capacity(scopes: usize) -> Self {
        Self { nodes: Vec::with_capacity(scopes), ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The scope whose last use is longest ago, and when that was.
    pub(super) fn oldest(&self) -> Option<(Scope, u64)> {
        self.nodes.get(self.front as usize).map(|node| (node.scope, node.used))
    }

    /// Adds a scope as the one that was used last. Returns its slot.
    pub(super) fn push(&mut self, scope: Scope, used: u64) -> u32 {
        let node = Node { scope, used, before: NONE, after: NONE };
        let slot = if let Some(vacant) = self.nodes.get_mut(self.free as usize) {
            let slot = self.free;
            self.free = vacant.after;
            *vacant = node;
            slot
        } else {
            self.nodes.push(node);
            (self.nodes.len() - 1) as u32
        };
        self.link_last(slot);
        self.len += 1;
        slot
    }

    /// Makes the scope in this slot the one that was used last.
    pub(super) fn touch(&mut self, slot: u32, used: u64) {
        self.nodes[slot as usize].used = used;
        if self.back != slot {
            self.unlink(slot);
            self.link_last(slot);
        }
    }

    /// Takes out the scope in this slot.
    pub(super) fn remove(&mut self, slot: u32) {
        self.unlink(slot);
        self.nodes[slot as usize].after = self.free;
        self.free = slot;
        self.len -= 1;
    }

    fn link_last(&mut self, slot: u32) {
        let node = &mut self.nodes[slot as usize];
        node.before = self.back;
        node.after = NONE;
        match self.back {
            NONE => self.front = slot,
            back => self.nodes[back as usize].after = slot,
        }
        self.back = slot;
    }

    fn unlink(&mut self, slot: u32) {
        let Node { before, after, .. } = self.nodes[slot as usize];
        match before {
            NONE => self.front = after,
            before => self.nodes[before as usize].after = after,
        }
        match after {
            NONE => self.back = before,
            after => self.nodes[after as usize].before = before,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(n: u8) -> Scope {
        Scope::from_bytes([n; 32])
    }

    fn drain(order: &mut Order) -> Vec<u64> {
        let mut seen = Vec::new();
        while let Some((_, used)) = order.oldest() {
            seen.push(used);
            order.remove(order.front);
        }
        seen
    }

    #[test]
    fn keeps_the_order_of_last_use() {
        let mut order = Order::default();
        let slots: Vec<u32> = (0..5).map(|n| order.push(scope(n), u64::from(n))).collect();
        order.touch(slots[0], 5);
        order.touch(slots[2], 6);
        order.touch(slots[2], 7);
        order.remove(slots[3]);
        assert_eq!(order.len(), 4);
        assert_eq!(drain(&mut order), [1, 4, 5, 7]);
        assert_eq!(order.len(), 0);
    }

    #[test]
    fn uses_vacant_slots_again() {
        let mut order = Order::default();
        for round in 0..100 {
            let first = order.push(scope(1), round);
            let second = order.push(scope(2), round);
            order.remove(first);
            order.remove(second);
        }
        assert_eq!(order.nodes.len(), 2);
        assert!(order.oldest().is_none());
    }
}
