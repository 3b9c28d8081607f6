//! Compares the table of methods with the contract, the clients' proxy, polkit's policy, and the effects of each
//! method. A test names what is missing for a new method.

use std::collections::BTreeMap;

use roxmltree::{Document, Node, ParsingOptions};

use super::authority::{GuardedAgent, guarded_agent};
use super::polkit::PolkitAnswer;
use super::*;
use crate::bus::authority::Action;
use crate::bus::job::Operation;
use crate::bus::method::{self, Access, Kind as Value, Method, REFUSAL};
use crate::fixture::UUID;
use api::client::Options;
use api::name::{MANAGER_INTERFACE, SERVICE};
use api::refused::{self, Kind};
use domain::code::Code;

const CONTRACT: &str = include_str!("../../../../packaging/dbus/org.variantd1.xml");
const POLICY: &str = include_str!("../../../../packaging/polkit/org.variantd1.policy");
const CLIENT: &str = include_str!("../../../api/src/client.rs");

fn parsed(text: &str) -> Document<'_> {
    let options = ParsingOptions {
        allow_dtd: true,
        ..ParsingOptions::default()
    };
    Document::parse_with_options(text, options).expect("XML")
}

/// The methods of the contract: the names of the input arguments, and the comment.
fn contract() -> BTreeMap<String, (Vec<String>, String)> {
    let document = parsed(CONTRACT);
    let is_manager = |node: &Node<'_, '_>| node.attribute("name") == Some(MANAGER_INTERFACE);
    let manager = document.descendants().find(is_manager);
    let children = manager.expect("the interface").children();
    let methods = children.filter(|node| node.has_tag_name("method"));
    let read = |method: Node<'_, '_>| {
        let name = method.attribute("name").expect("a name").to_owned();
        let arguments = method.children();
        let arguments = arguments.filter(|arg| arg.attribute("direction") == Some("in"));
        let arguments = arguments.filter_map(|arg| arg.attribute("name").map(str::to_owned));
        let mut before = method.prev_siblings().skip(1);
        let comment = before.find(Node::is_comment).and_then(|one| one.text());
        let words = comment.unwrap_or_default().split_whitespace();
        let words = words.collect::<Vec<_>>().join(" ");
        (name, (arguments.collect(), words))
    };
    methods.map(read).collect()
}

/// Calls a method with the arguments that the contract names, and these options.
async fn call(
    client: &Connection,
    method: &str,
    options: Options<'_>,
) -> Result<zbus::Message, Fault> {
    let (arguments, _) = &contract()[method];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (to, interface) = (
        client.unique_name().map(|_| SERVICE),
        Some(MANAGER_INTERFACE),
    );
    let answer = match arguments[..] {
        ["options"] => {
            let body = (options,);
            client
                .call_method(to, MANAGER, interface, method, &body)
                .await
        }
        [one, "options"] => {
            let body = (sample(one), options);
            client
                .call_method(to, MANAGER, interface, method, &body)
                .await
        }
        [one, "xml", "options"] => {
            let body = (sample(one), hostdev(GPU), options);
            client
                .call_method(to, MANAGER, interface, method, &body)
                .await
        }
        [one, "timeout_ms", "options"] => {
            let body = (sample(one), 60_000_u32, options);
            client
                .call_method(to, MANAGER, interface, method, &body)
                .await
        }
        [one, "name", "devices", "options"] => {
            let body = (sample(one), "default/vmi-1", vec![GPU], options);
            client
                .call_method(to, MANAGER, interface, method, &body)
                .await
        }
        ["operation", "subject", "options"] => {
            let body = ("recover", "", options);
            client
                .call_method(to, MANAGER, interface, method, &body)
                .await
        }
        _ => {
            unreachable!("'{method}' has arguments {arguments:?}: say here what they are in a test")
        }
    };
    answer.map_err(Fault::from)
}

fn sample(argument: &str) -> String {
    match argument {
        "domain" => "d0".to_owned(),
        "device" => GPU.to_owned(),
        "xml" => guest(GPU),
        "uuid" => UUID.to_owned(),
        _ => unreachable!("say here what '{argument}' is in a test"),
    }
}

/// A value for an option.
fn value(method: &Method, key: &str) -> Variant<'static> {
    let mut options = method.options.iter();
    match options.find(|one| one.key == key).map(|one| one.kind) {
        Some(Value::Text) if key == "device" => GPU.into(),
        Some(Value::Text) => "vfio-pci".into(),
        _ => true.into(),
    }
}

#[test]
fn the_table_has_the_methods_of_the_contract_in_its_order() {
    let names: Vec<&str> = method::ALL.iter().map(|method| method.name).collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    let served: Vec<String> = contract().into_keys().collect();
    assert_eq!(sorted, served, "bus/method.rs, and what is served");
    let place = |name: &&str| CONTRACT.find(&format!("<method name=\"{name}\">"));
    assert!(names.is_sorted_by_key(place), "{names:?}");
}

#[test]
fn the_contract_names_each_option_with_its_type() {
    let contract = contract();
    for method in &method::ALL {
        let (_, comment) = &contract[method.name];
        for option in method.options {
            let named = format!("`{}` ({})", option.key, option.kind.signature());
            assert!(
                comment.contains(&named),
                "the comment of '{}' in bus/manager.rs lacks {named}: {comment}",
                method.name
            );
        }
    }
}

#[test]
fn client_proxy_has_each_method_and_allows_interaction() {
    let all = CLIENT.find("pub trait Manager").expect("the proxy");
    let all = &CLIENT[all..];
    let all = &all[..all.find("\n}\n").expect("its end")];
    let items: Vec<&str> = all.split_inclusive(';').collect();
    for method in &method::ALL {
        let name = snake(method.name);
        let item = items
            .iter()
            .find(|item| item.contains(&format!("async fn {name}(")));
        let item = item.unwrap_or_else(|| unreachable!("api/src/client.rs lacks '{name}'"));
        let asks = matches!(method.access, Access::Polkit(_) | Access::AsOperation);
        // All users may plan unless an administrator changes that.
        let may_be_asked = item.contains("allow_interactive_auth") || method.name == "Plan";
        assert!(
            !asks || may_be_asked,
            "'{name}' in api/src/client.rs: allow_interactive_auth"
        );
    }
}

/// `PrepareXml` as `prepare_xml`.
fn snake(name: &str) -> String {
    let letters = name.char_indices().map(|(at, letter)| {
        let dash = at > 0 && letter.is_ascii_uppercase();
        format!(
            "{}{}",
            if dash { "_" } else { "" },
            letter.to_ascii_lowercase()
        )
    });
    letters.collect()
}

#[test]
fn each_operation_is_a_method() {
    for (word, operation) in Operation::ALL {
        assert_eq!(operation.method().name.to_lowercase(), word);
    }
}

/// The shipped policy has exactly the actions that are checked; an open method needs none.
#[test]
fn the_shipped_policy_has_each_action() {
    let document = parsed(POLICY);
    let actions = document.descendants();
    let shipped = actions.filter(|node| node.has_tag_name("action"));
    let shipped = shipped.map(|action| {
        let any = |node: &Node<'_, '_>| node.has_tag_name("allow_any");
        let any = action.descendants().find(any).and_then(|node| node.text());
        (
            action.attribute("id").expect("an id").to_owned(),
            any == Some("yes"),
        )
    });
    let asked = Action::ALL.map(|one| (one.to_string(), one.is_open()));
    assert_eq!(shipped.collect::<Vec<_>>(), asked);
}

#[tokio::test]
async fn each_method_checks_the_action_of_its_row() {
    let guarded_agent = guarded_agent(Some(PolkitAnswer::Denies)).await;
    guarded_agent.libvirt.put(&guest(GPU));
    for method in &method::ALL {
        asks(&guarded_agent, method, None).await;
        for option in method.options {
            asks(&guarded_agent, method, Some(option.key)).await;
        }
    }
}

async fn asks(guarded_agent: &GuardedAgent, method: &Method, option: Option<&'static str>) {
    let before = guarded_agent.asked().len();
    let options = option.map(|key| (key, value(method, key)));
    let answer = call(
        &guarded_agent.client,
        method.name,
        options.into_iter().collect(),
    )
    .await;
    let asked = guarded_agent.asked();
    let asked = asked[before..].first();
    let asked = asked.map(|words| words.split(' ').next().unwrap_or_default());
    let wanted = match method.access {
        Access::Polkit(_) => method.action(|key| Some(key) == option),
        Access::AsOperation => Some(Action::Recover),
        Access::Public | Access::Root => None,
    };
    let what = format!("'{}' with {option:?}", method.name);
    assert_eq!(
        asked,
        wanted.map(|action| action.to_string()).as_deref(),
        "{what}"
    );
    match answer {
        Err(Fault::NotAuthorized(words)) => assert_eq!(words.code, Some(Code::NotAuthorized)),
        other => assert!(wanted.is_none(), "{what}: {other:?}"),
    }
}

#[tokio::test]
async fn an_option_is_refused_where_it_is_unknown_or_of_another_type() {
    let scene = scene().await;
    scene.libvirt.put(&guest(GPU));
    for method in &method::ALL {
        let unknown = Options::from([("nonsense", true.into())]);
        let fault = call(&scene.client, method.name, unknown).await;
        let fault = printed(fault.expect_err(method.name));
        assert_eq!(fault, "unknown option 'nonsense'", "{}", method.name);
        for option in method.options {
            let other = Options::from([(option.key, 1_u32.into())]);
            let fault = call(&scene.client, method.name, other).await;
            let fault = printed(fault.expect_err(method.name));
            let (key, expected) = (option.key, option.kind.expected());
            assert_eq!(fault, format!("option '{key}' is not {expected}"));
        }
    }
}

fn printed(fault: Fault) -> String {
    match fault {
        Fault::Failed(words) => words.text,
        other => unreachable!("{other:?}"),
    }
}

/// The reply, or its second part if it has two.
fn text(answer: &zbus::Message) -> String {
    let body = answer.body();
    let one: zbus::Result<String> = body.deserialize();
    one.unwrap_or_else(|_| body.deserialize::<(String, String)>().expect("texts").1)
}

#[tokio::test]
async fn a_refusal_is_an_error_with_its_code_in_the_name_or_fields_as_the_caller_asks() {
    let guarded_agent = guarded_agent(Some(PolkitAnswer::Denies)).await;
    guarded_agent.libvirt.put(&guest(GPU));
    for method in method::ALL.iter().filter(|one| one.answers_refusal()) {
        let refused = call(&guarded_agent.client, method.name, Options::new()).await;
        let Err(Fault::NotAuthorized(printed)) = refused else {
            unreachable!("{}: {refused:?}", method.name);
        };
        let asking = Options::from([(REFUSAL.key, true.into())]);
        let answer = call(&guarded_agent.client, method.name, asking).await;
        let answer = text(&answer.expect("an answer"));
        let (kind, refusal) = refused::read(&answer).expect("fields");
        assert_eq!(kind, Kind::NotAuthorized);
        assert_eq!(
            (refusal.code, refusal.to_string()),
            (printed.code.expect("a code"), printed.text)
        );
    }
}

#[tokio::test]
async fn a_refused_plan_has_the_command_that_is_its_way_out() {
    let scene = scene().await;
    scene.libvirt.put(&guest("0009:09:00.0"));
    let manager = scene.manager().await;
    let error = manager.plan("d0", HashMap::new()).await;
    let error = Fault::from(error.expect_err("no such device"));
    let options = HashMap::from([("refusal", Variant::from(true))]);
    let answer = manager.plan("d0", options).await.expect("an answer");
    let (_, refusal) = refused::read(&answer).expect("a refusal");
    assert!(matches!(error, Fault::Refused(printed) if printed.text == refusal.to_string()));
    assert_eq!(refusal.hint.command(), Some("variantctl list"));
}

#[tokio::test]
async fn the_error_of_a_job_has_its_code_in_the_name_and_no_other_form() {
    let scene = scene().await;
    let manager = scene.manager().await;
    let asking = HashMap::from([("refusal", Variant::from(true))]);
    let fault = manager.start_job("bind", GPU, asking).await;
    let fault = printed(fault.expect_err("not for a job").into());
    assert!(
        fault.starts_with("option 'refusal' is not valid for a job"),
        "{fault}"
    );
}
