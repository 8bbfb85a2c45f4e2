//! The order of spans in a tree that may be broken in any way. Knows nothing but ids and times.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use super::SpanId;

/// What decides where a span stands.
#[derive(Debug, Clone, Copy)]
pub struct Node {
    /// The span.
    pub id: SpanId,
    /// Its parent, whether that is there or not.
    pub parent: Option<SpanId>,
    /// When it started.
    pub start_unix_nano: i64,
    /// How long it took.
    pub duration_nano: i64,
}

/// Where a span stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Levels below its root.
    pub depth: usize,
    /// The parent's index in the order that is returned; it comes before the child.
    pub parent: Option<usize>,
}

/// The indexes of `nodes` depth first, without those whose id came before, each with its place.
///
/// Linear but for one sort. The input's own order matters only between nodes that are equal in everything.
pub fn order(nodes: &[Node]) -> Vec<(usize, Place)> {
    let rank = |index: usize| (nodes[index].start_unix_nano, Reverse(nodes[index].duration_nano), nodes[index].id);
    let mut by_start: Vec<usize> = (0..nodes.len()).collect();
    by_start.sort_by_key(|&index| rank(index));

    let mut index_of = HashMap::with_capacity(nodes.len());
    by_start.retain(|&index| match index_of.entry(nodes[index].id) {
        Entry::Vacant(vacant) => {
            vacant.insert(index);
            true
        }
        Entry::Occupied(_) => false,
    });

    let parents: Vec<Option<usize>> = nodes
        .iter()
        .map(|node| node.parent.filter(|parent| *parent != node.id).and_then(|parent| index_of.get(&parent).copied()))
        .collect();
    let mut walk = Walk::new(Children::new(&by_start, &parents));

    let (roots, orphans): (Vec<usize>, Vec<usize>) =
        by_start.iter().filter(|&&index| parents[index].is_none()).partition(|&&index| nodes[index].parent.is_none());
    for root in roots.into_iter().chain(orphans) {
        walk.place_all_under(root);
    }
    // What is left leads up to a circle. Everything that hangs on it is placed when one of it is met.
    for &index in &by_start {
        if !walk.is_placed[index] {
            let circle = circle_above(index, &parents);
            let earliest = circle.into_iter().min_by_key(|&index| rank(index)).expect("a circle has members");
            walk.place_all_under(earliest);
        }
    }
    walk.order
}

/// The children of every node, in the order in which they start.
struct Children {
    /// Where the children of a node begin in `all`; one more than there are nodes.
    starts: Vec<usize>,
    all: Vec<usize>,
}

impl Children {
    fn new(by_start: &[usize], parents: &[Option<usize>]) -> Self {
        let mut starts = vec![0; parents.len() + 1];
        for &index in by_start {
            if let Some(parent) = parents[index] {
                starts[parent + 1] += 1;
            }
        }
        for index in 0..parents.len() {
            starts[index + 1] += starts[index];
        }
        let mut next = starts.clone();
        let mut all = vec![0; starts[parents.len()]];
        for &index in by_start {
            if let Some(parent) = parents[index] {
                all[next[parent]] = index;
                next[parent] += 1;
            }
        }
        Self { starts, all }
    }

    fn of(&self, index: usize) -> &[usize] {
        &self.all[self.starts[index]..self.starts[index + 1]]
    }
}

struct Walk {
    children: Children,
    is_placed: Vec<bool>,
    order: Vec<(usize, Place)>,
    stack: Vec<(usize, Place)>,
}

impl Walk {
    fn new(children: Children) -> Self {
        let count = children.starts.len() - 1;
        Self { children, is_placed: vec![false; count], order: Vec::with_capacity(count), stack: Vec::new() }
    }

    fn place_all_under(&mut self, root: usize) {
        self.stack.push((root, Place { depth: 0, parent: None }));
        while let Some((index, place)) = self.stack.pop() {
            // Only the root of a circle is met again, from its last member.
            if std::mem::replace(&mut self.is_placed[index], true) {
                continue;
            }
            let below = Place { depth: place.depth + 1, parent: Some(self.order.len()) };
            self.order.push((index, place));
            self.stack.extend(self.children.of(index).iter().rev().map(|&child| (child, below)));
        }
    }
}

/// The nodes of the circle that the parents of `index` end in.
fn circle_above(index: usize, parents: &[Option<usize>]) -> Vec<usize> {
    let up = |index: usize| parents[index].expect("what has no root above it has a parent");
    let mut seen = HashSet::new();
    let mut at = index;
    while seen.insert(at) {
        at = up(at);
    }
    let mut circle = vec![at];
    let mut next = up(at);
    while next != at {
        circle.push(next);
        next = up(next);
    }
    circle
}
