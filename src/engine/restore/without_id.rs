//! Calls without ids that the client dropped while it kept their outputs: what preceded them tells which output
//! answers which.

use super::*;

/// A remembered call: the position of its turn, the alternative, the part.
pub(super) type Call = (usize, u32, u32);

/// Remembered calls of one name, by all that can tell for which output they were made.
#[derive(Default)]
pub(super) struct Calls {
    by_turn: OwnMap<(TurnId, u32), Fitting>,
    by_before: AnchorMap<Fitting>,
    by_window: OwnMap<(usize, u64), Near>,
    /// Units before which none of them fits.
    barren: OwnSet<usize>,
}

/// Calls that fit equally well.
#[derive(Default)]
struct Fitting {
    completed: Few<Call>,
    provisional: Few<Call>,
}

/// Calls before which the same units stood: all of them, and those before which nothing more is known to have stood.
#[derive(Default)]
struct Near {
    all: Fitting,
    last: Fitting,
}

/// What fits one output.
#[derive(Default)]
struct Choice {
    completed: Only,
    provisional: Only,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Only {
    #[default]
    None,
    One(Call),
    Several,
}

impl Calls {
    pub(super) fn add(&mut self, call: Call, turn: &Turn, restorer: &Restorer<'_>) {
        let push = |fitting: &mut Fitting| match turn.is_provisional() {
            true => fitting.provisional.push(call),
            false => fitting.completed.push(call),
        };
        push(self.by_turn.entry((turn.id(), call.1)).or_default());
        let context = turn.context();
        if restorer.strictness == Strictness::Strict {
            if restorer.around.system() == context.system() {
                push(self.by_before.entry(context.before()).or_default());
            }
            return;
        }
        push(self.by_before.entry(context.before()).or_default());
        for (level, window) in context.windows().iter().enumerate() {
            let near = self.by_window.entry((level, *window)).or_default();
            push(&mut near.all);
            if level + 1 == context.windows().len() {
                push(&mut near.last);
            }
        }
    }
}

impl Choice {
    /// Takes note of calls that fit, and says whether there are any; those that are used are let go of for good.
    fn offer(&mut self, fitting: Option<&mut Fitting>, used: &OwnSet<Call>) -> bool {
        let Some(fitting) = fitting else { return false };
        let lists = [(&mut fitting.completed, &mut self.completed), (&mut fitting.provisional, &mut self.provisional)];
        for (calls, only) in lists {
            let mut at = 0;
            while let Some(call) = calls.get(at).filter(|_| *only != Only::Several) {
                if used.contains(call) {
                    calls.swap_remove(at);
                    continue;
                }
                *only = match *only {
                    Only::One(other) if other != *call => Only::Several,
                    _ => Only::One(*call),
                };
                at += 1;
            }
        }
        !(fitting.completed.is_empty() && fitting.provisional.is_empty())
    }

    /// The one call that is left to choose, if it is one; turns that were cut off are asked last.
    fn only(&self) -> Option<Call> {
        let only = if self.completed == Only::None { self.provisional } else { self.completed };
        match only {
            Only::One(call) => Some(call),
            Only::None | Only::Several => None,
        }
    }
}

impl Work<'_> {
    /// Finds the calls of outputs that have no id, in the order of the history: those before which all is the same
    /// first, then those before which as much is the same as the turn and the history show.
    pub(super) fn find_without_id(
        &self,
        mut outputs: Vec<(usize, Cow<'_, str>)>,
        mut by_name: HashMap<&str, Calls>,
    ) -> Vec<(Call, usize)> {
        let (history, around) = (self.restorer.history, self.restorer.around);
        let (mut found, mut used) = (Vec::new(), OwnSet::default());
        let mut beside: (Range<usize>, Vec<(TurnId, u32)>) = Default::default();
        for whole in [true, false] {
            by_name.values_mut().for_each(|calls| calls.barren.clear());
            outputs.retain(|(output, name)| {
                let Some(calls) = by_name.get_mut(&**name) else { return false };
                let mut choice = Choice::default();
                let answered = self.answered(history.parts[*output].message);
                if answered != beside.0 {
                    beside = (answered.clone(), self.turns_in(answered));
                }
                // What is left open between these is not decided by what fits less well.
                for turn in &beside.1 {
                    choice.offer(calls.by_turn.get_mut(turn), &used);
                }
                for unit in around.answered_at(*output) {
                    if calls.barren.contains(&unit) {
                        continue;
                    }
                    let mut fits = choice.offer(calls.by_before.get_mut(&around.before_unit(unit)), &used);
                    // The longest stretch that the history shows, and shorter ones for turns that show no more.
                    let longest = if whole { 0 } else { (unit + 1).ilog2() as usize };
                    for level in 0..longest {
                        let Some(window) = around.window_before(unit, level) else { break };
                        let near = calls.by_window.get_mut(&(level, window));
                        let near = near.map(|near| if level + 1 == longest { &mut near.all } else { &mut near.last });
                        fits |= choice.offer(near, &used);
                    }
                    if !fits {
                        calls.barren.insert(unit);
                    }
                }
                let Some(call) = choice.only() else { return true };
                used.insert(call);
                found.push((call, *output));
                false
            });
        }
        found
    }
}
