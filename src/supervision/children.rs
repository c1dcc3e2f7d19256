//! The table of a supervisor's children, by key and by name. It releases memory as children go.

use std::{collections::HashMap, sync::Arc};

use super::{child::Child, incarnation::ChildKey, options::SupervisorOptions, spec::ChildSpec};
use crate::domain::restart::ChildKind;

/// All children: the static ones in start order, the dynamic ones in no order.
#[derive(Default)]
pub(super) struct Children {
    table: HashMap<ChildKey, Child>,
    names: HashMap<Arc<str>, ChildKey>,
    order: Vec<ChildKey>,
    last: u64,
}

impl Children {
    /// Adds a child. If the name is taken, that name is the error.
    pub(super) fn add(
        &mut self,
        kind: ChildKind,
        spec: ChildSpec,
        options: &SupervisorOptions,
    ) -> Result<ChildKey, Arc<str>> {
        if self.names.contains_key(&spec.name) {
            return Err(spec.name);
        }
        self.last += 1;
        let key = ChildKey(self.last);
        if kind == ChildKind::Static {
            self.order.push(key);
        }
        self.names.insert(Arc::clone(&spec.name), key);
        self.table.insert(key, Child::new(key, kind, spec, options));
        Ok(key)
    }

    /// Removes a child. If less than a quarter of the table is used then, its memory is released.
    pub(super) fn remove(&mut self, key: ChildKey) -> Option<Child> {
        let child = self.table.remove(&key)?;
        self.names.remove(&child.name);
        let roomy = self.table.capacity() > ROOM && self.table.len() * 4 < self.table.capacity();
        if roomy {
            let room = (self.table.len() * 2).max(ROOM / 2);
            self.table.shrink_to(room);
            self.names.shrink_to(room);
        }
        Some(child)
    }

    pub(super) fn get(&self, key: ChildKey) -> Option<&Child> {
        self.table.get(&key)
    }

    pub(super) fn get_mut(&mut self, key: ChildKey) -> Option<&mut Child> {
        self.table.get_mut(&key)
    }

    pub(super) fn named(&self, name: &str) -> Option<ChildKey> {
        self.names.get(name).copied()
    }

    /// Static children in start order.
    pub(super) fn order(&self) -> &[ChildKey] {
        &self.order
    }

    pub(super) fn statics(&self) -> impl DoubleEndedIterator<Item = &Child> {
        self.order.iter().filter_map(|key| self.table.get(key))
    }

    pub(super) fn dynamic_count(&self) -> usize {
        self.table.len() - self.order.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Child> {
        self.table.values()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Child> {
        self.table.values_mut()
    }
}

/// Tables with room for no more entries than this keep their memory.
const ROOM: usize = 128;

#[cfg(test)]
mod tests {
    use actix::{Actor, Context};

    use super::*;
    use crate::supervision::slot;

    struct Idle;

    crate::answers_pings!(Idle);

    impl Actor for Idle {
        type Context = Context<Self>;
    }

    fn spec(name: String) -> ChildSpec {
        let (_, seat) = slot::<Idle>(name);
        ChildSpec::new(seat, |_| Ok(Idle))
    }

    #[test]
    fn ten_thousand_children_later_the_table_is_small_again() {
        let options = SupervisorOptions::default();
        let mut children = Children::default();
        let add =
            |number| children.add(ChildKind::Dynamic, spec(format!("task-{number}")), &options);
        let keys: Vec<ChildKey> = (0..10_000).map(add).collect::<Result<_, _>>().unwrap();

        for key in keys {
            assert!(children.remove(key).is_some());
        }

        assert_eq!(children.dynamic_count(), 0);
        assert!(
            children.table.capacity() <= 2 * ROOM,
            "{}",
            children.table.capacity()
        );
        assert!(
            children.names.capacity() <= 2 * ROOM,
            "{}",
            children.names.capacity()
        );
    }

    #[test]
    fn a_name_is_free_again_when_its_child_is_removed() {
        let options = SupervisorOptions::default();
        let mut children = Children::default();
        let name = || "x".to_owned();
        let key = children
            .add(ChildKind::Dynamic, spec(name()), &options)
            .unwrap();

        let refused = children.add(ChildKind::Dynamic, spec(name()), &options);
        children.remove(key);

        assert_eq!(refused, Err("x".into()));
        assert!(
            children
                .add(ChildKind::Dynamic, spec(name()), &options)
                .is_ok()
        );
    }
}
