//! Conditions of rules for headers and query parameters. A request is compared with all conditions of a Stage at once: each of
//! its headers and query parameters is looked up, so the work depends on the length of the request and not on the number of
//! rules.

use http::HeaderMap;
use sluice_wire::FieldMatch;
use smallvec::SmallVec;

use super::children::{Children, Stays};
use crate::gateway::path;

/// The conditions of one rule: all must be met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Conditions {
    pub(crate) headers: Vec<FieldMatch>,
    pub(crate) query: Vec<FieldMatch>,
}

/// The number of a condition. Equal conditions of several rules have one number.
pub(super) type ConditionId = u32;

/// Numbers of conditions, in ascending order.
pub(super) type ConditionIds = SmallVec<[ConditionId; 8]>;

/// All conditions of a router.
#[derive(Clone, Default)]
pub(super) struct ConditionTable {
    headers: Children<Values>,
    query: Children<Values>,
    next: ConditionId,
}

/// The conditions for one name.
#[derive(Clone, Default)]
struct Values {
    present: Option<Numbered>,
    exact: Children<Numbered>,
}

#[derive(Clone, Copy)]
struct Numbered {
    id: ConditionId,
    /// How many rules have the condition.
    rules: u32,
}

impl Values {
    fn stays(&self) -> Stays {
        if self.present.is_none() && self.exact.is_empty() { Stays::No } else { Stays::Yes }
    }

    fn met(&self, value: &[u8], out: &mut ConditionIds) {
        out.extend(self.present.map(|numbered| numbered.id));
        if !self.exact.is_empty()
            && let Ok(text) = std::str::from_utf8(value)
        {
            out.extend(self.exact.get(text).map(|numbered| numbered.id));
        }
    }
}

fn sorted(mut ids: ConditionIds) -> ConditionIds {
    ids.sort_unstable();
    ids.dedup();
    ids
}

impl ConditionTable {
    /// Adds the conditions of a rule and returns their numbers.
    pub(super) fn add(&mut self, conditions: &Conditions) -> ConditionIds {
        let Self { headers, query, next } = self;
        let mut ids = ConditionIds::new();
        for (names, fields) in [(headers, &conditions.headers), (query, &conditions.query)] {
            for field in fields {
                let mut number = || {
                    *next += 1;
                    Numbered { id: *next, rules: 0 }
                };
                let values = names.entry(&field.name, Values::default);
                let numbered = match &field.value {
                    None => values.present.get_or_insert_with(number),
                    Some(text) => values.exact.entry(text, &mut number),
                };
                numbered.rules += 1;
                ids.push(numbered.id);
            }
        }
        sorted(ids)
    }

    /// Removes the conditions of a rule and returns the numbers that they had.
    pub(super) fn remove(&mut self, conditions: &Conditions) -> ConditionIds {
        let mut ids = ConditionIds::new();
        for (names, fields) in [(&mut self.headers, &conditions.headers), (&mut self.query, &conditions.query)] {
            for field in fields {
                let one_less = |numbered: &mut Numbered| {
                    ids.push(numbered.id);
                    numbered.rules -= 1;
                    if numbered.rules == 0 { Stays::No } else { Stays::Yes }
                };
                names.change(&field.name, |values| {
                    match &field.value {
                        None => {
                            let stays = values.present.as_mut().map(one_less);
                            values.present = values.present.filter(|_| stays == Some(Stays::Yes));
                        }
                        Some(text) => values.exact.change(text, one_less),
                    }
                    values.stays()
                });
            }
        }
        sorted(ids)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.headers.is_empty() && self.query.is_empty()
    }

    /// The numbers of the conditions that a request meets.
    pub(super) fn met(&self, headers: &HeaderMap, query: Option<&str>) -> ConditionIds {
        let mut ids = ConditionIds::new();
        if !self.headers.is_empty() {
            for (name, value) in headers {
                if let Some(values) = self.headers.get(name.as_str()) {
                    values.met(value.as_bytes(), &mut ids);
                }
            }
        }
        if !self.query.is_empty() {
            for (name, value) in path::query_pairs(query.unwrap_or_default()) {
                if let Some(values) = self.query.get(&name) {
                    values.met(value.as_bytes(), &mut ids);
                }
            }
        }
        sorted(ids)
    }
}
