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
    origin: Origin,
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

    /// Where the state is readable. `binds_account` says that it is bound to an account.
    pub(crate) fn origin(&self, binds_account: bool) -> Origin {
        if binds_account { self.origin.clone() } else { self.origin.without_account() }
    }

    /// The session that the request names; `None` if it names none and one has to be derived.
    pub(crate) fn session(&self, members: &[Member<'_>], sources: &SessionSources) -> Option<Named> {
        self.named.clone().or_else(|| by_body(members, sources, self.agent.as_ref()))
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Caller(..)")
    }
}
