//! Reasoning goes back to those only from whom it came.

use serde_json::{Value, json};
use tower_reasoning_replay::{
    engine::Summary,
    scope::{Provenance, Tenant},
};

use crate::{
    support::{
        body::{Scripted, Step},
        service::whole,
    },
    talk::*,
};

fn kept() -> Value {
    json!([user("Look."), call(0), output(0)])
}

fn honest() -> Value {
    json!([user("Look."), reasoning(0), call(0), output(0)])
}

type Headers<'h> = &'h [(&'static str, &'static str)];

/// Learns under the first headers and asks under the others; tells whether the reasoning is back.
async fn crosses(one: (&'static str, Headers<'_>), other: (&'static str, Headers<'_>), tenant: bool) -> bool {
    let mut talk = Talk::new();
    let ask = async |talk: &Talk, history: &Value, answer: String| {
        let body = Scripted::new([Step::Data(talk.body(history).to_string().into())]);
        let mut request = talk.request(talk.uri).body(body).unwrap();
        if tenant {
            request.extensions_mut().insert(Tenant::new("customer"));
        }
        talk.rig.inner.will(whole(answer));
        talk.rig.exchange(request).await;
        talk.rig.inner.last().text()
    };
    (talk.uri, talk.headers) = (one.0, one.1.to_vec());
    ask(&talk, &json!([user("Look.")]), Form::Stream.write(&[reasoning(0), call(0)])).await;
    assert_eq!(ask(&talk, &kept(), document(&[])).await, talk.body(&honest()).to_string());
    (talk.uri, talk.headers) = (other.0, other.1.to_vec());
    let arrived = ask(&talk, &kept(), document(&[])).await;
    let [complete, bare] = [honest(), kept()].map(|history| talk.body(&history).to_string());
    let is_back = arrived == complete;
    assert!(is_back || arrived == bare);
    is_back
}

const KEY: (&str, &str) = ("authorization", "Bearer a key");
const SESSION: (&str, &str) = ("session-id", "s");
const AZURE: &str = "https://mine.openai.azure.com/openai/v1/responses";

/// R1, R3: another account with the provider gets nothing, even for one customer of the gateway; another key of the
/// same account does.
#[tokio::test]
async fn another_account_gets_nothing_r1() {
    let one: Headers<'_> = &[KEY, SESSION];
    let rotated: Headers<'_> = &[("authorization", "Bearer another"), SESSION];
    for tenant in [false, true] {
        assert!(!crosses((RESPONSES, one), (RESPONSES, rotated), tenant).await);
        assert!(crosses((RESPONSES, one), (RESPONSES, one), tenant).await);
    }
    for name in ["chatgpt-account-id", "openai-organization"] {
        let with = |key: &'static str, account| [("authorization", key), SESSION, (name, account)];
        let (one, fresh) = (with("Bearer a key", "acc-1"), with("Bearer fresh", "acc-1"));
        let other = with("Bearer a key", "acc-2");
        assert!(crosses((RESPONSES, &one), (RESPONSES, &fresh), true).await, "{name}");
        assert!(!crosses((RESPONSES, &one), (RESPONSES, &other), true).await, "{name}");
        assert!(!crosses((RESPONSES, &one), (RESPONSES, &other), false).await, "{name}");
    }
}

/// R4, R12: another resource, another vendor or another host gets nothing; another spelling of a path does.
#[tokio::test]
async fn another_resource_or_vendor_gets_nothing_r4() {
    let headers: Headers<'_> = &[KEY, SESSION];
    let hosts = [
        RESPONSES,
        AZURE,
        "https://yours.openai.azure.com/openai/v1/responses",
        "https://chatgpt.com/backend-api/codex/responses",
        "https://api.githubcopilot.com/responses",
        "https://api.x.ai/v1/responses",
        "https://openrouter.ai/api/v1/responses",
        "http://localhost:8080/v1/responses",
        "http://localhost:8081/v1/responses",
    ];
    for one in hosts {
        for other in hosts {
            assert_eq!(crosses((one, headers), (other, headers), true).await, one == other, "{one} {other}");
        }
    }
    let classic = "https://mine.openai.azure.com/openai/responses?api-version=2025-04-01-preview";
    assert!(crosses((AZURE, headers), (classic, headers), true).await);
}

/// Nothing crosses tenants, sessions, models and agents; the headers of Codex name a session and its agents.
#[tokio::test]
async fn sessions_of_codex_and_their_agents_live_side_by_side_r1() {
    let with = |more: Headers<'_>| [&[KEY], more].concat();
    let cases: [(Headers<'_>, Headers<'_>, bool); 8] = [
        (&[SESSION], &[("session-id", "t")], false),
        (&[SESSION], &[("session_id", "s")], true),
        (&[("thread-id", "s")], &[("session_id", "s")], true),
        (&[("x-codex-window-id", "s:1")], &[("x-codex-window-id", "s:2")], true),
        (&[SESSION], &[SESSION, ("x-openai-subagent", "review")], false),
        (&[SESSION, ("x-openai-subagent", "review")], &[SESSION, ("x-openai-subagent", "compact")], false),
        (&[SESSION, ("x-openai-subagent", "review")], &[SESSION, ("x-openai-subagent", "review")], true),
        (
            &[("originator", "codex_cli_rs"), ("x-client-request-id", "s")],
            &[("originator", "codex_cli_rs"), ("x-client-request-id", "t")],
            false,
        ),
    ];
    for (one, other, expected) in cases {
        let is_back = crosses((RESPONSES, &with(one)), (RESPONSES, &with(other)), true).await;
        assert_eq!(is_back, expected, "{one:?} {other:?}");
    }
}

/// Another model gets nothing, and the first one all of it again.
#[tokio::test]
async fn another_model_gets_nothing_r12() {
    let mut talk = Talk::new();
    talk.learn(&[user("Look.")], Form::Stream, &[reasoning(0), call(0)]).await;
    for (model, expected) in [("gpt-5-mini", kept()), ("gpt-5", honest())] {
        talk.model = model;
        talk.arrives(&kept(), &expected).await;
    }
}

/// R1: a gateway that names the account keeps the reasoning over keys and hosts.
#[tokio::test]
async fn a_gateway_that_names_the_account_keeps_the_reasoning_r1() {
    let mut talk = Talk::new();
    for (key, account, history, expected) in [
        ("Bearer one", "acc", json!([user("Look.")]), json!([user("Look.")])),
        ("Bearer two", "acc", kept(), honest()),
        ("Bearer two", "other", kept(), kept()),
    ] {
        talk.headers = vec![("authorization", key), SESSION];
        let body = Scripted::new([Step::Data(talk.body(&history).to_string().into())]);
        let mut request = talk.request(RESPONSES).body(body).unwrap();
        request.extensions_mut().insert(Tenant::new("customer"));
        request.extensions_mut().insert(Provenance::new("openai").with_account(account));
        talk.rig.inner.will(whole(Form::Stream.write(&[reasoning(0), call(0)])));
        talk.rig.exchange(request).await;
        assert_eq!(talk.rig.inner.last().text(), talk.body(&expected).to_string(), "{key} {account}");
    }
}

/// `prompt_cache_key` is often one constant: what precedes a turn has to be the same, or an id be drawn at random.
#[tokio::test]
async fn a_cache_key_is_a_weak_name_r13() {
    for named in [true, false] {
        let mut talk = Talk::derived();
        if named {
            talk.more = json!({"prompt_cache_key": "application"});
        }
        let message = json!({"role": "assistant", "content": "Yes."});
        talk.learn(&[user("Is it?")], Form::Stream, &[reasoning(0), said(0, "Yes.")]).await;
        let history = [user("Is it?"), message.clone(), user("And?")];
        let thought = without(&reasoning(0), &["id"]);
        talk.arrives(&input(&[&history]), &input(&[&history[..1], &[thought], &history[1..]])).await;
        talk.stays(&json!([user("Is it?"), user("Really?"), message, user("And?")])).await;
        talk.stays(&json!([user("Was it?"), message, user("And?")])).await;
        let report: Summary = {
            talk.rig.inner.will(whole(document(&[])));
            talk.post(RESPONSES, talk.body(&json!(history)).to_string()).await.report()
        };
        let expected = if named { "Weak" } else { "Derived" };
        assert_eq!(format!("{:?}", report.session), expected);
    }
}
