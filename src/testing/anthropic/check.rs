//! What a request must fulfil.
//!
//! The rules are those of <https://platform.claude.com/docs/en/build-with-claude/extended-thinking>, made stricter
//! where [`Builder::bind_signatures`](super::Builder::bind_signatures) says so.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use super::{
    config::Config,
    prefix::Difference,
    refusal::Refusal,
    request::{Asked, BINDING_BETA, Binding, Block, Data, Mode, Run, path},
    route::Model,
    vault::{Issued, IssuedKind, Kept, Vault},
};

/// What one request is checked, and its answer made, under.
pub(super) struct Context<'a> {
    pub(super) config: &'a Config,
    pub(super) vault: &'a Vault,
    pub(super) name: &'a str,
    pub(super) model: Model,
    pub(super) credential: [u8; 32],
    pub(super) betas: Vec<String>,
    pub(super) counting: bool,
    pub(super) vertex: bool,
}

/// What was found in a request that passed.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// The thinking blocks that count, by their numbers.
    pub(super) chain: Vec<usize>,
    /// The blocks that were dropped: where, and why.
    pub(super) dropped: Vec<(String, &'static str)>,
}

/// A thinking block of the request that is known.
struct Known<'a> {
    block: &'a Block,
    issued: Arc<Issued>,
}

const MODIFIED: &str = "`thinking` or `redacted_thinking` blocks in the latest assistant message cannot be modified. These blocks must remain as they were in the original response.";

/// Checks a request. The number is that of the blocks with valid state, as far as the checks got.
pub(super) fn check(asked: &Asked, context: &Context<'_>) -> (usize, Result<Verdict, Refusal>) {
    let mut genuine = 0;
    let verdict = layout(&asked.runs, context.counting)
        .and_then(|()| context.mode(asked))
        .and_then(|()| context.search_results(&asked.runs))
        .and_then(|()| context.thoughts(asked, &mut genuine));
    (genuine, verdict)
}

/// Roles take turns, and every call has its result.
fn layout(runs: &[Run], counting: bool) -> Result<(), Refusal> {
    if runs.first().is_some_and(|run| run.assistant) {
        return Err(Refusal::invalid("messages: first message must use the \"user\" role"));
    }
    let mut ids = HashSet::new();
    let mut open: Vec<(&Block, &str)> = Vec::new();
    for (number, run) in runs.iter().enumerate() {
        for block in &run.blocks {
            match &block.data {
                Data::ToolResult { id } => match open.iter().position(|(_, call)| call == id) {
                    Some(at) => {
                        open.remove(at);
                    }
                    None => {
                        return Err(Refusal::invalid(format!(
                            "{}: unexpected `tool_use_id` found in `tool_result` blocks: {id}. Each `tool_result` block must have a corresponding `tool_use` block in the previous message.",
                            block.path()
                        )));
                    }
                },
                Data::ToolUse { id, .. } | Data::ServerToolUse { id, .. } if !ids.insert(id.as_str()) => {
                    return Err(Refusal::invalid(format!("{}: `tool_use` ids must be unique", block.path())));
                }
                _ => {}
            }
        }
        if !run.assistant {
            unanswered(&open)?;
        }
        open.clear();
        if run.assistant {
            let calls = run.blocks.iter().filter_map(|block| match &block.data {
                Data::ToolUse { id, .. } => Some((block, id.as_str())),
                _ => None,
            });
            open.extend(calls);
            let last = number + 1 == runs.len();
            server_tools(run, last)?;
        }
    }
    if counting { Ok(()) } else { unanswered(&open) }
}

fn unanswered(open: &[(&Block, &str)]) -> Result<(), Refusal> {
    let Some((block, _)) = open.first() else { return Ok(()) };
    let ids: Vec<&str> = open.iter().map(|(_, id)| *id).collect();
    Err(Refusal::invalid(format!(
        "messages.{}: `tool_use` ids were found without `tool_result` blocks immediately after: {}. Each `tool_use` block must have a corresponding `tool_result` block in the next message.",
        block.at.0,
        ids.join(", ")
    )))
}

/// A search has its result behind it, unless the turn is paused.
fn server_tools(run: &Run, last: bool) -> Result<(), Refusal> {
    for (at, block) in run.blocks.iter().enumerate() {
        let Data::ServerToolUse { id, name } = &block.data else { continue };
        let rest = run.blocks.get(at..).unwrap_or_default();
        let found =
            rest.iter().any(|block| matches!(&block.data, Data::SearchResult { id: result, .. } if result == id));
        if name == "web_search" && !found && !last {
            return Err(Refusal::invalid(format!(
                "{}: `web_search` tool use with id `{id}` was found without a corresponding `web_search_tool_result` block",
                block.path()
            )));
        }
    }
    Ok(())
}

/// Where the final turn starts: behind the last user message without a result.
fn final_turn(runs: &[Run]) -> usize {
    runs.iter().rposition(|run| !run.assistant && !run.has_tool_result()).unwrap_or(0)
}

impl Context<'_> {
    /// What the mode of thinking demands of the final turn.
    fn mode(&self, asked: &Asked) -> Result<(), Refusal> {
        let turn = asked.runs.get(final_turn(&asked.runs)..).unwrap_or_default();
        for run in turn.iter().filter(|run| run.assistant) {
            let calls = run.blocks.iter().any(|block| matches!(block.data, Data::ToolUse { .. }));
            match (asked.mode, run.blocks.first()) {
                (Mode::Disabled, _) if !self.config.think_unasked => {
                    if let Some(block) = run.blocks.iter().find(|block| block.is_thought()) {
                        return Err(Refusal::invalid(format!(
                            "When thinking is disabled, an `assistant` message in the final position cannot contain `{}`. To use thinking blocks, enable `thinking` in your request.",
                            block.kind()
                        )));
                    }
                }
                (Mode::Enabled, Some(first)) if calls && !first.is_thought() => {
                    return Err(Refusal::invalid(format!(
                        "{}.type: Expected `thinking` or `redacted_thinking`, but found `{}`. When `thinking` is enabled, a final `assistant` message must start with a thinking block (preceeding the lastmost set of `tool_use` and `tool_result` blocks). We recommend you include thinking blocks from previous turns. To avoid this requirement, disable `thinking`. Please consult our documentation at https://docs.claude.com/en/docs/build-with-claude/extended-thinking",
                        first.path(),
                        first.kind()
                    )));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn search_results(&self, runs: &[Run]) -> Result<(), Refusal> {
        for block in runs.iter().flat_map(|run| &run.blocks) {
            let Data::SearchResult { encrypted, .. } = &block.data else { continue };
            if encrypted.iter().any(|content| self.vault.find(content, IssuedKind::SearchResult).is_none()) {
                return Err(Refusal::invalid(format!(
                    "{}: Invalid `encrypted_content` in `search_result` block",
                    block.path()
                )));
            }
        }
        Ok(())
    }

    fn thoughts(&self, asked: &Asked, genuine: &mut usize) -> Result<Verdict, Refusal> {
        let latest = asked.runs.iter().rposition(|run| run.assistant);
        let mut verdict = Verdict::default();
        let mut seen = HashSet::new();
        for (number, run) in asked.runs.iter().enumerate().filter(|(_, run)| run.assistant) {
            let is_latest = latest == Some(number);
            let mut known = Vec::new();
            for block in run.blocks.iter().filter(|block| block.is_thought()) {
                let issued = self.known(block, is_latest)?;
                if self.config.bind_signatures && !seen.insert(issued.number) {
                    return Err(invalid(block, ""));
                }
                known.push(Known { block, issued });
            }
            self.in_place(run, &known, is_latest)?;
            for Known { block, issued } in known {
                let reason = self.unreadable(&issued).map_or_else(
                    || match self.misplaced(asked, block, &issued, &verdict.chain) {
                        None => Ok(None),
                        Some(_) if asked.binding == Some(Binding::DropBlock) => Ok(Some("prefix_binding_mismatch")),
                        Some(hint) => Err(self.bound_elsewhere(block, &hint)),
                    },
                    |reason| Ok(Some(reason)),
                )?;
                match reason {
                    Some(reason) => verdict.dropped.push((block.path(), reason)),
                    None => {
                        *genuine += 1;
                        verdict.chain.push(issued.number);
                    }
                }
            }
        }
        Ok(verdict)
    }

    /// What a thinking block was issued as.
    fn known(&self, block: &Block, is_latest: bool) -> Result<Arc<Issued>, Refusal> {
        let (found, text) = match &block.data {
            Data::Thinking { thinking, signature } => {
                (self.vault.find(signature, IssuedKind::Thinking), thinking.as_str())
            }
            Data::Redacted { data } => (self.vault.find(data, IssuedKind::Redacted), ""),
            _ => (None, ""),
        };
        let issued = found.ok_or_else(|| invalid(block, ""))?;
        if issued.thinking != text {
            return Err(if is_latest { modified(block) } else { invalid(block, "") });
        }
        if issued.family != self.model.family && !self.model.binds_prefix {
            return Err(invalid(block, ""));
        }
        Ok(issued)
    }

    /// Why this model, under this credential, drops a block without a word.
    fn unreadable(&self, issued: &Issued) -> Option<&'static str> {
        let bound = self.config.bind_credentials.unwrap_or(self.model.binds_organization);
        if issued.family != self.model.family {
            Some("model_binding_mismatch")
        } else if bound && issued.credential != self.credential {
            Some("organization_binding_mismatch")
        } else {
            None
        }
    }

    /// Whether the blocks of a run stand as they did in the answers that they came in.
    fn in_place(&self, run: &Run, known: &[Known<'_>], is_latest: bool) -> Result<(), Refusal> {
        if !is_latest && !self.config.bind_signatures {
            return Ok(());
        }
        let refuse = |block: &Block| if is_latest { modified(block) } else { invalid(block, "") };
        let answers: BTreeSet<usize> = known.iter().map(|known| known.issued.answer).collect();
        for (nth, number) in answers.into_iter().enumerate() {
            let answer = self.vault.answer(number);
            let own = || known.iter().filter(|known| known.issued.answer == number);
            let Some(first) = own().next() else { continue };
            // Only a continued answer shares its message with another.
            if nth > 0 && !answer.continues && self.config.bind_signatures {
                return Err(refuse(first.block));
            }
            let thoughts = answer.blocks.iter().filter(|block| matches!(block, Kept::Thought(_))).count();
            if is_latest && own().count() != thoughts {
                return Err(refuse(first.block));
            }
            let places = places(run, number, &answer.blocks, known);
            for (at, (block, place)) in places.iter().enumerate() {
                let earlier = places.get(..at).unwrap_or_default();
                let thought = block.is_thought();
                if let Some((other, _)) =
                    earlier.iter().find(|(other, before)| before >= place && (thought || other.is_thought()))
                {
                    return Err(refuse(if thought { block } else { other }));
                }
            }
            // A block alone among the words of another answer has been moved there.
            let company = answer.blocks.len() > thoughts && run.blocks.iter().any(|block| !block.is_thought());
            if company && self.config.bind_signatures && places.iter().all(|(block, _)| block.is_thought()) {
                return Err(refuse(first.block));
            }
        }
        Ok(())
    }

    /// Whether a block stands behind something else than it was made behind; the sentence that explains it.
    fn misplaced(&self, asked: &Asked, block: &Block, issued: &Issued, chain: &[usize]) -> Option<String> {
        let asked_for = self.model.binds_prefix && asked.binding.is_some();
        if !self.config.bind_prefix.unwrap_or(self.model.binds_prefix) && !asked_for {
            return None;
        }
        if let Some(difference) = issued.prefix.difference(issued.reach, &asked.prefix, block.reach) {
            return Some(match difference {
                Difference::System => {
                    " The `system` prompt differs from the one this block was created with.".to_owned()
                }
                Difference::Missing(at) => format!(
                    " Content that preceded this block when it was created is missing from this request, starting at `{}`.",
                    path(at)
                ),
                Difference::Other => String::new(),
            });
        }
        if issued.chain.ends_with(chain) {
            return None;
        }
        let gap = chain.iter().all(|number| issued.chain.contains(number));
        Some(if gap {
            " The `thinking` block that preceded this one when it was created is missing from this request.".to_owned()
        } else {
            String::new()
        })
    }

    fn bound_elsewhere(&self, block: &Block, hint: &str) -> Refusal {
        let header = if self.betas.iter().any(|beta| beta == BINDING_BETA) {
            String::new()
        } else {
            format!(" That setting requires the `{BINDING_BETA}` value in the `anthropic-beta` header.")
        };
        let why = format!(
            ". The block is bound to a different conversation. Remove the block, or set `thinking.block_binding.prefix_mismatch_behavior` to \"drop_block\".{header}{hint}"
        );
        invalid(block, &why)
    }
}

/// The blocks of a run that belong to an answer, with their places there.
fn places<'a>(run: &'a Run, answer: usize, blocks: &[Kept], known: &[Known<'_>]) -> Vec<(&'a Block, usize)> {
    let mut used = HashSet::new();
    let mut next = 0;
    run.blocks
        .iter()
        .filter_map(|block| {
            let place = if block.is_thought() {
                let known = known.iter().find(|known| known.block.at == block.at)?;
                (known.issued.answer == answer).then_some(known.issued.position)?
            } else {
                let kept = block.kept()?;
                let fits = |at: &usize| !used.contains(at) && blocks.get(*at).is_some_and(|other| other.is(&kept));
                (next..blocks.len()).chain(0..next).find(fits)?
            };
            used.insert(place);
            next = place + 1;
            Some((block, place))
        })
        .collect()
}

fn modified(block: &Block) -> Refusal {
    Refusal::invalid(format!("{}: {MODIFIED}", block.path()))
}

fn invalid(block: &Block, why: &str) -> Refusal {
    let field = if matches!(block.data, Data::Redacted { .. }) { "data" } else { "signature" };
    Refusal::invalid(format!("{}: Invalid `{field}` in `{}` block{why}", block.path(), block.kind()))
}
