//! The protocol's messages as bytes: by example, and by any bytes in any pieces.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn call(xml: &str) -> MethodCall<'_> {
    MethodCall {
        method: RUN.into(),
        parameters: Arguments {
            operation: Some("prepare".into()),
            sub: Some("begin".into()),
            domain: Some("d0".into()),
            extra: Some("-".into()),
            xml: Some(xml.into()),
            ..Arguments::default()
        },
        more: true,
        ..MethodCall::default()
    }
}

/// All messages of `bytes`, pushed in pieces of this size.
fn messages(bytes: &[u8], piece: usize, limit: usize) -> Result<Vec<Vec<u8>>, TooLong> {
    let mut frames = Frames::new(limit);
    let mut found = Vec::new();
    for piece in bytes.chunks(piece) {
        frames.push(piece);
        while let Some(message) = frames.take()? {
            found.push(message);
        }
        assert!(frames.kept() <= limit, "{} bytes are kept", frames.kept());
    }
    Ok(found)
}

#[test]
fn call_is_the_json_of_varlink() {
    let bytes = encoded(&call("<domain name=\"a\"/>\n")).expect("JSON");
    let text = String::from_utf8(bytes).expect("text");
    assert_eq!(
        text,
        "{\"method\":\"org.variantd1.Hook.Run\",\"parameters\":{\"operation\":\"prepare\",\"sub\":\"begin\",\"domain\":\"d0\",\
         \"extra\":\"-\",\"xml\":\"<domain name=\\\"a\\\"/>\\n\"},\"more\":true}\0"
    );
}

#[test]
fn call_of_varlinkctl_is_read() {
    let text = br#"{"method":"org.varlink.service.GetInfo"}"#;
    let call: MethodCall<'_> = serde_json::from_slice(text).expect("a call");
    assert_eq!(call.method, GET_INFO);
    assert_eq!(call.parameters, Arguments::default());
    let text =
        br#"{"method":"a.B","parameters":{"future":[{}],"xml":null},"more":false,"a.vendor":1}"#;
    let call: MethodCall<'_> = serde_json::from_slice(text).expect("a call");
    assert_eq!(call.parameters, Arguments::default(), "unknown fields");
}

#[test]
fn error_is_one_sentence_with_code_and_hint() {
    let results = Results {
        code: Some("VD-BND-001".into()),
        message: Some("'0009:01:00.0': in use".into()),
        hint: Some("stop its user".into()),
        ..Results::default()
    };
    assert_eq!(
        results.sentence(),
        "'0009:01:00.0': in use (VD-BND-001); stop its user"
    );
    let bare = Results {
        message: Some("no".into()),
        ..Results::default()
    };
    assert_eq!(bare.sentence(), "no");
}

#[test]
fn descriptions_name_each_method_and_error() {
    for (description, interface, names) in [
        (DESCRIPTION, INTERFACE, &[RUN, REFUSED, FAILED][..]),
        (
            SERVICE_DESCRIPTION,
            SERVICE,
            &[
                GET_INFO,
                GET_DESCRIPTION,
                INTERFACE_NOT_FOUND,
                METHOD_NOT_FOUND,
                METHOD_NOT_IMPLEMENTED,
                INVALID_PARAMETER,
                PERMISSION_DENIED,
            ],
        ),
    ] {
        let head = format!("\ninterface {interface}\n");
        assert!(description.contains(&head), "{description}");
        for name in names {
            let member = name.strip_prefix(interface).expect("of the interface");
            let member = member.trim_start_matches('.');
            let is_there = ["method", "error"]
                .iter()
                .any(|kind| description.contains(&format!("\n{kind} {member}(")));
            assert!(is_there, "{name}");
        }
    }
}

#[test]
fn too_long_message_is_an_error_before_its_end_arrives() {
    assert_eq!(messages(&[b'x'; 11], 3, 10), Err(TooLong(10)));
    assert_eq!(
        messages(b"xxxxxxxxxx\0", 11, 10).map(|all| all.len()),
        Ok(1)
    );
    assert_eq!(messages(b"xxxxxxxxxxx\0", 12, 10), Err(TooLong(10)));
}

/// JSON of any shape, such as a peer may send.
fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        ".*".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        let key = prop_oneof![
            Just("method".to_owned()),
            Just("parameters".to_owned()),
            Just("xml".to_owned()),
            Just("continues".to_owned()),
            Just("error".to_owned()),
            ".{0,8}"
        ];
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Into::into),
            vec((key, inner), 0..6)
                .prop_map(|pairs| serde_json::Value::Object(pairs.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn messages_do_not_depend_on_the_pieces_that_they_arrive_in(
        texts in vec(vec(1_u8.., 0..40), 0..8),
        piece in 1_usize..50,
    ) {
        let bytes: Vec<u8> = texts.iter().flat_map(|text| [text, &[0][..]].concat()).collect();
        prop_assert_eq!(messages(&bytes, piece, 40), Ok(texts));
    }

    #[test]
    fn any_bytes_are_messages_or_an_error(bytes in vec(any::<u8>(), 0..300), piece in 1_usize..50) {
        for message in messages(&bytes, piece, 64).unwrap_or_default() {
            let _ = serde_json::from_slice::<MethodCall<'_>>(&message);
            let _ = serde_json::from_slice::<MethodReply>(&message);
        }
    }

    #[test]
    fn any_json_is_a_message_or_an_error(value in json()) {
        let bytes = serde_json::to_vec(&value).expect("JSON");
        let _ = serde_json::from_slice::<MethodReply>(&bytes);
        if let Ok(call) = serde_json::from_slice::<MethodCall<'_>>(&bytes) {
            let again = encoded(&call).expect("JSON");
            let read: MethodCall<'_> = serde_json::from_slice(&again[..again.len() - 1]).expect("a call");
            prop_assert_eq!(read, call);
        }
    }

    #[test]
    fn any_definition_arrives_as_it_was_sent(xml in "\\PC*|.*") {
        let bytes = encoded(&call(&xml)).expect("JSON");
        prop_assert_eq!(bytes.iter().filter(|byte| **byte == 0).count(), 1, "the NUL byte at its end");
        let read: MethodCall<'_> = serde_json::from_slice(&bytes[..bytes.len() - 1]).expect("a call");
        prop_assert_eq!(read, call(&xml));
    }
}
