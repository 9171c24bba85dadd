use std::fmt;

use http::{HeaderName, request::Parts};

use super::{
    provenance::{Origin, provenance},
    session::{Agent, Member, Named, SessionSources, agent, by_body, by_head},
    tenant::{TenantOf, tenant},
};

/// Whose conversation a request belongs to, as far as its head tells.
pub(crate) struct Caller {
    pub(crate) tenant: TenantOf,
    /// With the account, which counts only for dialects that bind state to it.
    pub(crate) origin: Origin,
    pub(crate) agent: Option<Agent>,
    /// The session, if the head names it: then the body has no say in it.
    pub(crate) named: Option<Named>,
}

impl Caller {
    pub(crate) fn of(head: &Parts, tenant_headers: &[HeaderName], sources: &SessionSources) -> Self {
        Self {
            tenant: tenant(head, tenant_headers),
            origin: provenance(head, true),
            agent: agent(head),
            named: by_head(head, sources),
        }
    }

    /// The session that the body names; none if the head does.
    pub(crate) fn in_body(&self, members: &[Member<'_>], sources: &SessionSources) -> Option<Named> {
        if self.named.is_some() {
            return None;
        }
        by_body(members, sources, self.agent.as_ref())
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Caller(..)")
    }
}
