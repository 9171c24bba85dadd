//! The targets that are ratios of two counts.

use super::baseline::Counts;
use crate::workload::{
    attack,
    talk::{Dialect, Says},
};

/// How many instructions per byte a body may cost that is made to be slow. Ordinary ones of which all state comes back
/// cost 10 to 33, those of the smallest turns up to 140. It is no ratio, so that making the ordinary faster breaks nothing.
pub(crate) const ATTACK: f64 = 200.0;

/// A count, per byte, or how it compares with another one.
pub(crate) struct Ratio {
    pub(crate) id: &'static str,
    pub(crate) name: String,
    pub(crate) target: f64,
    above: String,
    below: Option<String>,
    per_byte: bool,
}

impl Ratio {
    /// `None` if it was not counted.
    pub(crate) fn measured(&self, counts: &Counts) -> Option<f64> {
        let cost = |name: &str| {
            let (instructions, bytes) = counts.get(name)?;
            Some(*instructions as f64 / if self.per_byte { *bytes as f64 } else { 1.0 })
        };
        let above = cost(&self.above)?;
        match &self.below {
            Some(below) => Some(above / cost(below)?),
            None => Some(above),
        }
    }
}

pub(crate) fn ratios() -> Vec<Ratio> {
    let mut ratios = Vec::new();
    for dialect in Dialect::ALL {
        let of = |what: &str| format!("{} {what}", dialect.name());
        let mut add = |id, name: &str, target, above: &str, below: &str, per_byte| {
            let below = (!below.is_empty()).then(|| of(below));
            ratios.push(Ratio { id, name: of(name), target, above: of(above), below, per_byte });
        };
        for what in
            ["nothing to do", "restore all", "last1", "arguments written anew", "edited", "truncated", "branched"]
        {
            let (long, short) = (format!("hist_1000 {what}"), format!("hist_200 {what}"));
            add("P4", &format!("{what}, hist_1000 / hist_200, per byte"), 1.05, &long, &short, true);
        }
        add(
            "P4",
            "restore all, 5,000 items / 1,000 items, per byte",
            1.05,
            "items_5000 restore all",
            "items_1000 restore all",
            true,
        );
        for attack::Attack { name, .. } in attack::attacks(dialect) {
            let (large, small) = (format!("attack {name} large"), format!("attack {name} small"));
            add("P4", &format!("{name}, four times larger, per byte"), 1.05, &large, &small, true);
            add("P4", &format!("{name}, instructions per byte"), ATTACK, &large, "", true);
        }
        for pieces in ["7 B", "64 KiB", "whole"] {
            let line = |size| format!("line of {size} MiB in pieces of {pieces}");
            add(
                "P6",
                &format!("line of 4 MiB / 1 MiB in pieces of {pieces}, per byte"),
                1.05,
                &line(4),
                &line(1),
                true,
            );
        }
        for (says, target) in [(Says::Nothing, 1.12), (Says::Text, 1.40)] {
            let hyper = |side: &str| format!("hyper {} {side}", says.name());
            let name = format!("hyper layered / unlayered, {}", says.name());
            add("P7", &name, target, &hyper("layered"), &hyper("unlayered"), false);
        }
    }
    ratios
}
