"""The session without sockets or clock: both roles, every timer, every way a peer can be wrong.

Every test that feeds octets runs with them whole, one by one, and in threes: events and answers must be the
same.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.errors import EncodeError, SessionClosed
from gateway.model import Secret
from gateway.smpp import codec
from gateway.smpp import constants as c
from gateway.smpp.pdu import (
    Bind,
    BindResp,
    DataSm,
    DataSmResp,
    DecodedPdu,
    DeliverSm,
    DeliverSmResp,
    EnquireLink,
    EnquireLinkResp,
    GenericNack,
    Malformed,
    Pdu,
    SubmitSm,
    SubmitSmResp,
    Unbind,
    UnbindResp,
    Unknown,
)
from gateway.smpp.session import (
    TRANSITIONS,
    BindRefusedEvent,
    BindRequested,
    BindType,
    Bound,
    Closed,
    CloseReason,
    DeliverAnswered,
    DeliverMalformed,
    DeliverReceived,
    DeliverTimedOut,
    Event,
    Move,
    OutbindReceived,
    PeerNack,
    ProtocolProblem,
    Role,
    Session,
    SessionConfig,
    SessionState,
    SubmitAnswered,
    SubmitReceived,
    SubmitTimedOut,
    UnboundByPeer,
    WindowFull,
)

Feed = Callable[[Session, bytes, float], list[Event]]
PASSWORD = "s3cr3t"
SUBMIT = SubmitSm(source_addr=b"1069", destination_addr=b"8613800138000", short_message=b"hello")
DELIVER = DeliverSm(source_addr=b"8613800138000", esm_class=4, short_message=b"id:1 stat:DELIVRD")


@pytest.fixture(params=[0, 1, 3], ids=["whole", "octet-by-octet", "in-threes"])
def feed(request: pytest.FixtureRequest) -> Feed:
    def feed_in_pieces(session: Session, data: bytes, now: float) -> list[Event]:
        step = request.param or max(1, len(data))
        return [event for i in range(0, len(data), step) for event in session.receive_data(data[i : i + step], now)]

    return feed_in_pieces


def new_esme(**changes: object) -> Session:
    config = SessionConfig(**{"system_id": "acme", "password": Secret(PASSWORD), "window": 5, **changes})
    return Session(Role.ESME, config, 0.0)


def bound_esme(**changes: object) -> Session:
    session = new_esme(**changes)
    session.start(0.0)
    (bind,) = sent(session)
    resp = BindResp(bind.command_id | c.RESPONSE_BIT, b"smsc", None, 0, bind.sequence_number)
    session.receive_data(codec.encode(resp), 0.0)
    assert session.bound
    return session


def new_smsc(**changes: object) -> Session:
    return Session(Role.SMSC, SessionConfig(**{"system_id": "smsc", "window": 5, **changes}), 0.0)


def bound_smsc(command_id: int = c.BIND_TRANSCEIVER, **changes: object) -> Session:
    session = new_smsc(**changes)
    session.receive_data(codec.encode(Bind(command_id, b"acme", PASSWORD.encode(), sequence_number=1)), 0.0)
    session.accept_bind(1)
    sent(session)
    assert session.bound
    return session


def sent(session: Session) -> list[DecodedPdu]:
    """Return the PDUs the session wants written, and count them as written."""
    return codec.Decoder().feed(session.data_to_send())


def octets(*pdus: Pdu) -> bytes:
    return b"".join(codec.encode(pdu) for pdu in pdus)


def malformed(command_id: int, sequence_number: int) -> bytes:
    """Return a short message whose sm_length points past its end."""
    body = codec.encode(SUBMIT)[16:-6] + b"\xff12345"
    return struct.pack(">IIII", 16 + len(body), command_id, 0, sequence_number) + body


# ------------------------------------------------------------------------------------------------------------
# The table
# ------------------------------------------------------------------------------------------------------------
def test_every_state_can_be_reached_and_ends() -> None:
    assert set(TRANSITIONS) == set(SessionState)
    reached = {SessionState.OPEN}
    for _ in SessionState:
        reached |= {target for state in reached for target in TRANSITIONS[state].values()}
    assert reached == set(SessionState)
    for state in set(SessionState) - {SessionState.CLOSED}:
        assert TRANSITIONS[state][Move.END] is SessionState.CLOSED
    assert TRANSITIONS[SessionState.CLOSED] == {}


# ------------------------------------------------------------------------------------------------------------
# Binding
# ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("bind_type", "command_id", "state", "free"),
    [
        (BindType.TRANSMITTER, c.BIND_TRANSMITTER, SessionState.BOUND_TX, 5),
        (BindType.RECEIVER, c.BIND_RECEIVER, SessionState.BOUND_RX, 0),
        (BindType.TRANSCEIVER, c.BIND_TRANSCEIVER, SessionState.BOUND_TRX, 5),
    ],
)
def test_bind(feed: Feed, bind_type: BindType, command_id: int, state: SessionState, free: int) -> None:
    session = new_esme(bind_type=bind_type, system_type="vma", addr_ton=1, addr_npi=1, address_range="^1069")
    assert session.free == 0
    session.start(0.0)
    expected = Bind(command_id, b"acme", PASSWORD.encode(), b"vma", 0x34, 1, 1, b"^1069", sequence_number=1)
    assert sent(session) == [expected]
    assert session.state is SessionState.BINDING
    resp = BindResp(command_id | c.RESPONSE_BIT, b"smsc", {c.TAG_SC_INTERFACE_VERSION: b"\x34"}, sequence_number=1)
    assert feed(session, octets(resp), 0.1) == [Bound(bind_type, b"smsc", 0x34)]
    assert (session.state, session.free, session.peer_system_id) == (state, free, b"smsc")
    with pytest.raises(SessionClosed):
        session.start(1.0)


@pytest.mark.parametrize("status", [c.RINVPASWD, c.RALYBND, c.RBINDFAIL])
def test_a_refused_bind_ends_the_session(feed: Feed, status: int) -> None:
    session = new_esme()
    session.start(0.0)
    refusal = codec.encode_header(c.BIND_TRANSCEIVER_RESP, 1, status)
    assert feed(session, refusal, 0.1) == [
        BindRefusedEvent(status),
        Closed(CloseReason.BIND_REFUSED, c.status_name(status), [], []),
    ]
    assert session.next_deadline() is None


def test_a_nacked_bind_is_refused(feed: Feed) -> None:
    session = new_esme()
    session.start(0.0)
    events = feed(session, octets(GenericNack(c.RINVCMDID, 1)), 0.1)
    assert events[0] == BindRefusedEvent(c.RINVCMDID)
    assert session.closed


def test_an_answer_to_another_bind_is_no_answer(feed: Feed) -> None:
    session = new_esme()
    session.start(0.0)
    wrong = octets(
        BindResp(c.BIND_TRANSCEIVER_RESP, sequence_number=2),
        BindResp(c.BIND_RECEIVER_RESP, sequence_number=1),
    )
    assert feed(session, wrong, 0.1) == []
    assert session.counters.unmatched_responses == 2
    assert session.state is SessionState.BINDING


def test_a_bind_resp_with_a_broken_body_still_counts_by_its_header(feed: Feed) -> None:
    session = new_esme()
    session.start(0.0)
    broken = struct.pack(">IIII", 24, c.BIND_TRANSCEIVER_RESP, 0, 1) + b"smsc\0\x02\x10\0"
    events = feed(session, broken, 0.1)
    assert [type(event) for event in events] == [ProtocolProblem, Bound]


def test_a_bind_that_is_never_answered_times_out() -> None:
    session = new_esme(session_init_timer_s=10.0)
    session.start(5.0)
    assert session.next_deadline() == 15.0
    assert session.tick(14.9) == []
    (closed,) = session.tick(15.0)
    assert isinstance(closed, Closed)
    assert closed.reason is CloseReason.BIND_TIMEOUT


@pytest.mark.parametrize(
    "field", [{"password": Secret("n1ne-char")}, {"system_id": "x" * 16}, {"password": Secret("密码")}]
)
def test_credentials_that_do_not_fit_are_refused_not_cut_nor_shown(field: dict[str, object]) -> None:
    session = new_esme(**field)
    with pytest.raises(EncodeError) as refused:
        session.start(0.0)
    assert "n1ne" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert session.data_to_send() == b""


def test_no_repr_shows_the_credentials() -> None:
    for password in (Secret(PASSWORD), PASSWORD):
        shown = repr(SessionConfig(system_id="acme-id", password=password)) + repr(
            Bound(BindType.RECEIVER, b"acme-id", 0)
        )
        assert PASSWORD not in shown
        assert "acme-id" not in shown


# ------------------------------------------------------------------------------------------------------------
# Submitting
# ------------------------------------------------------------------------------------------------------------
def test_submit_takes_a_slot_and_a_number(feed: Feed) -> None:
    session = bound_esme(window=2)
    assert session.submit(SUBMIT, "a", 1.0) == 2  # 1 was the bind
    assert session.submit(SUBMIT, "b", 1.0) == 3
    assert (session.free, session.in_flight) == (0, 2)
    with pytest.raises(WindowFull):
        session.submit(SUBMIT, "c", 1.0)
    assert [pdu.sequence_number for pdu in sent(session)] == [2, 3]
    assert session.data_to_send() == b""
    assert feed(session, codec.encode_submit_sm_resp(2, b"id-2"), 1.5) == [
        SubmitAnswered("a", 0, b"id-2", 1.0, 1.5, False)
    ]
    assert session.free == 1


def test_nothing_can_be_submitted_before_the_bind_or_as_receiver() -> None:
    for session in (new_esme(), bound_esme(bind_type=BindType.RECEIVER), bound_smsc()):
        with pytest.raises(SessionClosed):
            session.submit(SUBMIT, None, 0.0)
    for session in (new_smsc(), bound_smsc(c.BIND_TRANSMITTER), bound_esme()):
        with pytest.raises(SessionClosed):
            session.deliver(DELIVER, None, 0.0)


def test_a_pdu_that_cannot_be_built_takes_no_slot_and_no_number() -> None:
    session = bound_esme()
    with pytest.raises(EncodeError):
        session.submit(SubmitSm(short_message=b"x" * 255), "bad", 0.0)
    assert (session.free, session.queued) == (5, 0)
    assert session.submit(SUBMIT, "good", 0.0) == 2


def test_answers_in_any_order_find_their_requests(feed: Feed) -> None:
    session = bound_esme(window=200)
    numbers = [session.submit(SUBMIT, f"c{i}", 1.0) for i in range(200)]
    sent(session)
    answers = b"".join(codec.encode_submit_sm_resp(n, b"%d" % n) for n in reversed(numbers))
    events = feed(session, answers, 2.0)
    assert [event.context for event in events if isinstance(event, SubmitAnswered)] == [
        f"c{i}" for i in reversed(range(200))
    ]
    assert session.free == 200


def test_an_error_answer_needs_no_body(feed: Feed) -> None:
    session = bound_esme()
    session.submit(SUBMIT, "a", 1.0)
    data = codec.encode_header(c.SUBMIT_SM_RESP, 2, c.RTHROTTLED)
    assert feed(session, data, 2.0) == [SubmitAnswered("a", c.RTHROTTLED, b"", 1.0, 2.0, False)]


def test_unknown_repeated_and_zero_numbers_are_counted_and_free_nothing(feed: Feed) -> None:
    session = bound_esme(window=3)
    for context in ("a", "b", "c"):
        session.submit(SUBMIT, context, 1.0)
    answers = [0, 99, 0xFFFFFFFF, 2, 2, 2]
    events = feed(session, b"".join(codec.encode_submit_sm_resp(n, b"x") for n in answers), 2.0)
    assert events == [SubmitAnswered("a", 0, b"x", 1.0, 2.0, False)]
    assert session.counters.unmatched_responses == 5
    assert session.free == 1


@pytest.mark.parametrize("first", [0x7FFFFFF0, 0x7FFFFFFF])
def test_sequence_numbers_wrap_to_one(feed: Feed, first: int) -> None:
    session = bound_esme(first_sequence_number=first, window=40)
    numbers = [session.submit(SUBMIT, i, 1.0) for i in range(40)]
    expected = [n if n <= 0x7FFFFFFF else n - 0x7FFFFFFF for n in range(first + 1, first + 41)]
    assert numbers == expected
    answers = b"".join(codec.encode_submit_sm_resp(n, b"%d" % n) for n in numbers)
    assert [e.context for e in feed(session, answers, 2.0) if isinstance(e, SubmitAnswered)] == list(range(40))


def test_after_the_wrap_numbers_still_open_or_late_are_left_out() -> None:
    session = bound_esme(first_sequence_number=0x7FFFFFFE, response_timer_s=10.0)
    session._window.add(1, "open since long", 0.0)
    session._window.add(2, "will be late", 0.0)
    session._window.overdue(10.0, 10.0)
    session._window.add(3, "open", 10.0)
    assert [session.submit(SUBMIT, i, 10.0) for i in range(3)] == [0x7FFFFFFF, 4, 5]


# ------------------------------------------------------------------------------------------------------------
# Answers that do not come, or come late
# ------------------------------------------------------------------------------------------------------------
def test_a_late_answer_is_reported_as_late_and_frees_no_second_slot(feed: Feed) -> None:
    session = bound_esme(window=2, response_timer_s=10.0, enquire_link_s=0)
    session.submit(SUBMIT, "a", 1.0)
    session.submit(SUBMIT, "b", 5.0)
    sent(session)
    assert session.next_deadline() == 11.0
    assert session.tick(10.9) == []
    assert session.tick(11.0) == [SubmitTimedOut("a", 1.0, 11.0)]
    assert session.free == 1
    late = codec.encode_submit_sm_resp(2, b"late-id")
    assert feed(session, late, 12.0) == [SubmitAnswered("a", 0, b"late-id", 1.0, 12.0, True)]
    assert session.free == 1
    assert feed(session, late, 13.0) == []
    assert (session.counters.late_answers, session.counters.unmatched_responses) == (1, 1)


def test_late_requests_are_remembered_for_a_bounded_while() -> None:
    session = bound_esme(response_timer_s=10.0, enquire_link_s=0)
    session.submit(SUBMIT, "a", 0.0)
    session.tick(10.0)
    session.tick(301.0)
    assert session.receive_data(codec.encode_submit_sm_resp(2, b"x"), 302.0) == []
    assert session.counters.unmatched_responses == 1


def test_three_silences_in_a_row_end_the_session_though_the_link_answers(feed: Feed) -> None:
    session = bound_esme(window=5, response_timer_s=10.0, enquire_link_s=8.0)
    for at, context in enumerate("abcde"):
        session.submit(SUBMIT, context, float(at))
    sent(session)
    events: list[Event] = []
    for second in range(1, 30):
        if session.closed:
            break
        events += session.tick(float(second))
        for pdu in sent(session):
            if isinstance(pdu, EnquireLink):
                events += feed(session, octets(EnquireLinkResp(0, pdu.sequence_number)), float(second))
    assert events == [
        SubmitTimedOut("a", 0.0, 10.0),
        SubmitTimedOut("b", 1.0, 11.0),
        SubmitTimedOut("c", 2.0, 12.0),
        Closed(CloseReason.RESPONSE_TIMEOUTS, "3 unanswered in a row", ["d", "e"], []),
    ]


def test_an_answer_between_two_silences_starts_the_count_again(feed: Feed) -> None:
    session = bound_esme(window=9, response_timer_s=10.0, enquire_link_s=0)
    for _ in range(4):
        for context in ("x", "y"):
            session.submit(SUBMIT, context, 0.0)
        answered = session.submit(SUBMIT, "z", 5.0)
        sent(session)
        session.tick(10.0)
        feed(session, codec.encode_submit_sm_resp(answered, b"1"), 10.0)
    assert not session.closed
    assert session.counters.timeouts == 8


# ------------------------------------------------------------------------------------------------------------
# Delivering to us
# ------------------------------------------------------------------------------------------------------------
def test_delivers_are_answered_in_any_order(feed: Feed) -> None:
    session = bound_esme()
    delivers = [DeliverSm(short_message=b"%d" % n, sequence_number=n) for n in (11, 12, 13, 14)]
    assert feed(session, octets(*delivers), 1.0) == [DeliverReceived(pdu) for pdu in delivers]
    assert sent(session) == []
    session.respond_deliver(13)
    session.respond_deliver(11, c.RSYSERR)
    session.respond_delivers([14, 12])
    expected = [(13, 0), (11, c.RSYSERR), (14, 0), (12, 0)]
    assert sent(session) == [DeliverSmResp(b"", status, number) for number, status in expected]


def test_a_data_sm_is_handed_on_and_answered_as_one(feed: Feed) -> None:
    session = bound_esme()
    first, second = DataSm(source_addr=b"8613800138000", sequence_number=70), DataSm(sequence_number=72)
    deliver = replace(DELIVER, sequence_number=71)
    events = feed(session, octets(first, deliver, second), 1.0)
    assert events == [DeliverReceived(first), DeliverReceived(deliver), DeliverReceived(second)]
    assert sent(session) == [], "not before it is recorded"
    session.respond_delivers([71, 70])
    session.respond_deliver(72, c.RSYSERR)
    assert sent(session) == [
        DeliverSmResp(sequence_number=71),
        DataSmResp(sequence_number=70),
        DataSmResp(command_status=c.RSYSERR, sequence_number=72),
    ]
    # Its number is free again for a deliver_sm of the peer.
    session.respond_delivers([70])
    assert sent(session) == [DeliverSmResp(sequence_number=70)]


def test_a_data_sm_nobody_can_read_is_the_owners_to_keep_and_answer(feed: Feed) -> None:
    session = bound_esme()
    (event,) = feed(session, struct.pack(">IIII", 18, c.DATA_SM, 0, 70) + b"\0\1", 1.0)
    assert isinstance(event, DeliverMalformed)
    session.respond_delivers([70])
    assert sent(session) == [DataSmResp(sequence_number=70)]


def test_a_data_sm_to_a_transmitter_is_refused(feed: Feed) -> None:
    session = bound_esme(bind_type=BindType.TRANSMITTER)
    (event,) = feed(session, octets(DataSm(sequence_number=70)), 1.0)
    assert isinstance(event, ProtocolProblem)
    assert sent(session) == [DataSmResp(command_status=c.RINVBNDSTS, sequence_number=70)]


def test_smsc_hears_the_answer_to_a_data_sm_and_takes_none_itself(feed: Feed) -> None:
    session = bound_smsc()
    number = session.deliver(DataSm(), "receipt", 1.0, codec.encode)
    session.data_to_send()
    (event,) = feed(session, octets(DataSmResp(sequence_number=number)), 1.5)
    assert event == DeliverAnswered("receipt", 0, 1.0, 1.5, False)
    (event,) = feed(session, octets(DataSm(sequence_number=5)), 2.0)
    assert isinstance(event, ProtocolProblem)
    # What never left is handed back once, not sent as well.
    session.deliver(DataSm(), "unsent", 3.0, codec.encode)
    (closed,) = [e for e in session.close(3.0) if isinstance(e, Closed)]
    assert closed.unsent == ["unsent"]
    assert [type(pdu) for pdu in sent(session)] == [DataSmResp]


def test_a_deliver_nobody_can_read_is_the_owners_to_keep_and_answer(feed: Feed) -> None:
    session = bound_esme()
    data = malformed(c.DELIVER_SM, 9)
    (event,) = feed(session, data, 1.0)
    assert isinstance(event, DeliverMalformed)
    assert event.pdu.raw == data
    assert sent(session) == []
    session.respond_deliver(event.pdu.sequence_number)
    assert sent(session) == [DeliverSmResp(b"", 0, 9)]


@pytest.mark.parametrize("data", [octets(DeliverSm(sequence_number=9)), malformed(c.DELIVER_SM, 9)])
def test_a_deliver_to_a_transmitter_is_refused(feed: Feed, data: bytes) -> None:
    for session in (bound_esme(bind_type=BindType.TRANSMITTER), new_esme()):
        (event,) = feed(session, data, 1.0)
        assert isinstance(event, ProtocolProblem)
        (answer,) = sent(session)
        assert isinstance(answer, DeliverSmResp)
        assert answer.sequence_number == 9
        assert answer.command_status in (c.RINVBNDSTS, c.RINVMSGLEN)


# ------------------------------------------------------------------------------------------------------------
# The link
# ------------------------------------------------------------------------------------------------------------
def test_we_answer_enquire_link_in_every_state_but_the_last(feed: Feed) -> None:
    for session in (new_esme(), bound_esme(), new_smsc(), bound_smsc()):
        assert feed(session, octets(EnquireLink(0, 0xFFFFFFFF)), 1.0) == []
        assert sent(session) == [EnquireLinkResp(0, 0xFFFFFFFF)]


@pytest.mark.parametrize("make", [bound_esme, bound_smsc])
def test_silence_is_asked_about_and_an_answer_is_enough(make: Callable[..., Session], feed: Feed) -> None:
    session = make(enquire_link_s=30.0, response_timer_s=5.0)
    assert session.next_deadline() == 30.0
    session.tick(30.0)
    (enquiry,) = sent(session)
    assert isinstance(enquiry, EnquireLink)
    assert session.next_deadline() == 35.0
    assert feed(session, octets(EnquireLinkResp(0, enquiry.sequence_number)), 33.0) == []
    assert session.next_deadline() == 63.0
    assert feed(session, octets(EnquireLinkResp(0, enquiry.sequence_number)), 34.0) == []
    assert session.counters.unmatched_responses == 1


def test_traffic_spares_the_question(feed: Feed) -> None:
    session = bound_esme(enquire_link_s=30.0)
    feed(session, octets(EnquireLink(0, 1)), 20.0)
    assert session.next_deadline() == 50.0
    session.tick(30.0)
    assert session.counters.enquire_links_sent == 0


def test_a_dead_link_ends_the_session_within_both_timers() -> None:
    session = bound_esme(enquire_link_s=30.0, response_timer_s=5.0)
    session.submit(SUBMIT, "a", 32.0)
    sent(session)
    session.tick(30.0)
    sent(session)
    (closed,) = session.tick(35.0)
    assert closed == Closed(CloseReason.LINK_TIMEOUT, "no enquire_link_resp in time", ["a"], [])


def test_a_timer_of_zero_is_off() -> None:
    session = bound_esme(enquire_link_s=0, response_timer_s=0, session_init_timer_s=0)
    session.submit(SUBMIT, "a", 0.0)
    assert session.next_deadline() is None
    assert session.tick(1e9) == []
    assert not session.closed
    waiting = new_smsc(session_init_timer_s=0)
    assert waiting.next_deadline() is None
    assert waiting.tick(1e9) == []


# ------------------------------------------------------------------------------------------------------------
# Unbinding
# ------------------------------------------------------------------------------------------------------------
def test_we_unbind_and_still_hear_answers(feed: Feed) -> None:
    session = bound_esme()
    session.submit(SUBMIT, "a", 1.0)
    session.submit(SUBMIT, "b", 1.0)
    assert session.unbind(2.0) == []
    assert session.unbind(2.0) == []
    assert [type(pdu) for pdu in sent(session)] == [SubmitSm, SubmitSm, Unbind]
    assert (session.state, session.free) == (SessionState.UNBINDING, 0)
    with pytest.raises(SessionClosed):
        session.submit(SUBMIT, "c", 2.0)
    data = (
        codec.encode_submit_sm_resp(2, b"id")
        + octets(DeliverSm(sequence_number=5), UnbindResp(0, 4))
        + codec.encode_submit_sm_resp(3, b"too late")
    )
    events = feed(session, data, 3.0)
    assert [type(event) for event in events] == [SubmitAnswered, DeliverReceived, Closed]
    assert events[-1] == Closed(CloseReason.UNBOUND, "", ["b"], [])


def test_an_unbind_nobody_answers_ends_after_the_response_timer() -> None:
    session = bound_esme(response_timer_s=5.0)
    session.unbind(2.0)
    assert session.next_deadline() == 7.0
    (closed,) = session.tick(7.0)
    assert isinstance(closed, Closed)
    assert closed.reason is CloseReason.UNBOUND


def test_an_unbind_resp_of_another_number_is_not_ours(feed: Feed) -> None:
    session = bound_esme()
    assert feed(session, octets(UnbindResp(0, 2)), 1.0) == []
    session.unbind(2.0)
    assert feed(session, octets(UnbindResp(0, 77)), 3.0) == []
    assert session.counters.unmatched_responses == 2


def test_unbind_before_the_bind_just_ends() -> None:
    for session in (new_esme(), new_smsc()):
        (closed,) = session.unbind(1.0)
        assert closed == Closed(CloseReason.LOCAL, "", [], [])


def test_the_peer_unbinds_with_nothing_open(feed: Feed) -> None:
    for session in (bound_esme(), bound_smsc(), new_smsc()):
        assert feed(session, octets(Unbind(0, 77)), 1.0) == [
            UnboundByPeer(),
            Closed(CloseReason.UNBOUND_BY_PEER, "", [], []),
        ]
        assert sent(session) == [UnbindResp(0, 77)]


def test_the_peer_unbinds_under_load_and_settles_what_it_can(feed: Feed) -> None:
    session = bound_esme(response_timer_s=30.0)
    for context in ("a", "b"):
        session.submit(SUBMIT, context, 1.0)
    sent(session)
    session.submit(SUBMIT, "never left", 1.0)
    assert feed(session, octets(Unbind(0, 77)), 2.0) == [UnboundByPeer()]
    assert sent(session) == [UnbindResp(0, 77)]  # and not the third submit
    assert (session.free, session.next_deadline()) == (0, 7.0)
    assert feed(session, octets(Unbind(0, 78)), 2.5) == []
    assert sent(session) == [UnbindResp(0, 78)]
    assert feed(session, codec.encode_submit_sm_resp(3, b"id"), 3.0) == [SubmitAnswered("b", 0, b"id", 1.0, 3.0, False)]
    assert session.tick(7.0) == [Closed(CloseReason.UNBOUND_BY_PEER, "", ["a"], ["never left"])]


def test_the_peers_last_answer_ends_a_session_it_unbound(feed: Feed) -> None:
    session = bound_esme()
    session.submit(SUBMIT, "a", 1.0)
    sent(session)
    feed(session, octets(Unbind(0, 77)), 2.0)
    events = feed(session, codec.encode_submit_sm_resp(2, b"id"), 3.0)
    assert [type(event) for event in events] == [SubmitAnswered, Closed]


def test_both_unbind_at_once(feed: Feed) -> None:
    session = bound_esme()
    session.unbind(1.0)
    sent(session)
    assert feed(session, octets(Unbind(0, 9)), 1.1) == []
    assert sent(session) == [UnbindResp(0, 9)]
    assert feed(session, octets(UnbindResp(0, 2)), 1.2) == [Closed(CloseReason.UNBOUND, "", [], [])]


# ------------------------------------------------------------------------------------------------------------
# generic_nack
# ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("status", "reported"), [(c.RINVCMDLEN, c.RINVCMDLEN), (0, c.RUNKNOWNERR)])
def test_a_nack_of_a_known_number_answers_it_and_is_never_a_success(feed: Feed, status: int, reported: int) -> None:
    session = bound_esme()
    session.submit(SUBMIT, "a", 1.0)
    assert feed(session, octets(GenericNack(status, 2)), 2.0) == [SubmitAnswered("a", reported, b"", 1.0, 2.0, False)]
    assert session.free == 5


def test_a_nack_finds_a_late_request_too(feed: Feed) -> None:
    session = bound_esme(response_timer_s=10.0)
    session.submit(SUBMIT, "a", 1.0)
    session.tick(11.0)
    assert feed(session, octets(GenericNack(8, 2)), 12.0) == [SubmitAnswered("a", 8, b"", 1.0, 12.0, True)]


def test_three_nacks_a_minute_that_answer_nothing_end_the_session(feed: Feed) -> None:
    session = bound_esme(enquire_link_s=0)
    for now in (0.0, 50.0, 100.0, 150.0):
        assert feed(session, octets(GenericNack(c.RINVCMDID, 0)), now) == [PeerNack(c.RINVCMDID, 0)]
    events = feed(session, octets(GenericNack(8, 99), GenericNack(8, 98)), 151.0)
    assert [type(event) for event in events] == [PeerNack, Closed]
    assert session.counters.unmatched_nacks == 5


def test_a_peer_without_enquire_link_is_there_all_the_same(feed: Feed) -> None:
    session = bound_esme(enquire_link_s=30.0, response_timer_s=5.0)
    session.tick(30.0)
    (enquiry,) = sent(session)
    assert feed(session, octets(GenericNack(c.RINVCMDID, enquiry.sequence_number)), 31.0) == []
    assert session.tick(40.0) == []
    assert not session.closed


def test_a_nacked_unbind_is_as_good_as_answered(feed: Feed) -> None:
    session = bound_esme()
    session.unbind(1.0)
    (unbind,) = sent(session)
    (closed,) = feed(session, octets(GenericNack(8, unbind.sequence_number)), 2.0)
    assert isinstance(closed, Closed)
    assert closed.reason is CloseReason.UNBOUND


# ------------------------------------------------------------------------------------------------------------
# What no session should meet
# ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("make", [bound_esme, bound_smsc, new_smsc])
def test_an_unknown_command_is_nacked(make: Callable[[], Session], feed: Feed) -> None:
    session = make()
    (event,) = feed(session, octets(Unknown(0x0111, b"x", 0, 5)), 1.0)
    assert isinstance(event, ProtocolProblem)
    assert sent(session) == [GenericNack(c.RINVCMDID, 5)]


def test_what_has_no_answer_gets_none(feed: Feed) -> None:
    session = bound_esme()
    data = octets(
        Unknown(c.ALERT_NOTIFICATION, b"", 0, 1),
        Unknown(c.OUTBIND, b"", 0, 2),
        Unknown(0x80000111, b"", 0, 3),
        DeliverSmResp(b"", 0, 4),
    )
    assert feed(session, data, 1.0) == []
    assert sent(session) == []
    assert (session.counters.unknown_commands, session.counters.unmatched_responses) == (3, 1)


def test_an_outbind_before_the_bind_asks_for_it(feed: Feed) -> None:
    session = Session(Role.ESME, SessionConfig(system_id="acme", session_init_timer_s=10.0), 0.0)
    (event,) = feed(session, octets(Unknown(c.OUTBIND, b"smsc\0word\0", 0, 1)), 9.0)
    assert event == OutbindReceived(b"smsc", b"word")
    assert "word" not in repr(event)
    assert (sent(session), session.counters.unknown_commands) == ([], 0)
    assert session.next_deadline() == 10.0, "nobody gets more time by talking"
    session.start(9.5)
    (bind,) = sent(session)
    assert bind.command_id == c.BIND_TRANSCEIVER
    assert session.next_deadline() == 19.5


@pytest.mark.parametrize("body", [b"", b"smsc", b"smsc\0", b"smsc\0word", b"x" * 300 + b"\0\0"])
def test_an_outbind_nobody_can_read_is_not_answered(feed: Feed, body: bytes) -> None:
    session = Session(Role.ESME, SessionConfig(system_id="acme"), 0.0)
    (event,) = feed(session, octets(Unknown(c.OUTBIND, body, 0, 1)), 1.0)
    assert isinstance(event, ProtocolProblem)
    assert (sent(session), session.counters.malformed) == ([], 1)


def test_no_outbind_is_heard_in_the_role_of_the_smsc(feed: Feed) -> None:
    assert feed(new_smsc(), octets(Unknown(c.OUTBIND, b"smsc\0word\0", 0, 1)), 1.0) == []


@pytest.mark.parametrize(
    "pdu", [SubmitSm(sequence_number=5), Bind(c.BIND_RECEIVER, sequence_number=5)], ids=["submit", "bind"]
)
def test_requests_of_the_wrong_direction_are_refused(feed: Feed, pdu: Pdu) -> None:
    session = bound_esme()
    (event,) = feed(session, octets(pdu), 1.0)
    assert isinstance(event, ProtocolProblem)
    (answer,) = sent(session)
    assert (answer.command_id, answer.command_status) == (pdu.command_id | c.RESPONSE_BIT, c.RINVBNDSTS)


@pytest.mark.parametrize("length", [0, 3, 15, 65537, 0x7FFFFFFF, 0xFFFFFFFF])
def test_lost_framing_is_nacked_and_closed(feed: Feed, length: int) -> None:
    session = bound_esme()
    session.submit(SUBMIT, "a", 1.0)
    session.submit(SUBMIT, "b", 1.0)
    sent(session)
    session.submit(SUBMIT, "c", 1.0)
    data = codec.encode_submit_sm_resp(2, b"id") + struct.pack(">IIII", length, 4, 0, 9) + b"x" * 50
    answered, closed = feed(session, data, 2.0)
    assert answered == SubmitAnswered("a", 0, b"id", 1.0, 2.0, False)
    assert isinstance(closed, Closed)
    assert (closed.reason, closed.lost, closed.unsent) == (CloseReason.FRAMING, ["b"], ["c"])
    assert sent(session) == [GenericNack(c.RINVCMDLEN, 0)]
    assert feed(session, octets(EnquireLink(0, 1)), 3.0) == []
    assert sent(session) == []


def test_nothing_comes_out_of_an_ended_session(feed: Feed) -> None:
    session = bound_esme()
    (closed,) = session.close(1.0)
    assert isinstance(closed, Closed)
    everything = octets(EnquireLink(0, 1), DeliverSm(sequence_number=2), Unbind(0, 3), GenericNack(8, 0))
    assert feed(session, everything, 2.0) == []
    assert session.tick(1e9) == session.receive_eof(3.0) == session.close(4.0) == session.unbind(5.0) == []
    session.respond_deliver(1)
    session.respond_delivers([1, 2])
    session.respond_submit(1, b"x")
    assert session.data_to_send() == b""
    with pytest.raises(SessionClosed):
        session.submit(SUBMIT, None, 6.0)


# ------------------------------------------------------------------------------------------------------------
# The end hands back what was in flight
# ------------------------------------------------------------------------------------------------------------
def test_what_left_is_lost_and_what_did_not_is_unsent() -> None:
    for end in (lambda s: s.receive_eof(9.0), lambda s: s.close(9.0)):
        session = bound_esme(window=9)
        for context in ("a", "b", "c"):
            session.submit(SUBMIT, context, 1.0)
        sent(session)
        for context in ("d", "e"):
            session.submit(SUBMIT, context, 2.0)
        session.receive_data(codec.encode_submit_sm_resp(3, b"id"), 3.0)
        session.receive_data(codec.encode_submit_sm_resp(6, b"a guess"), 3.0)  # answered before it was sent
        session.respond_deliver(50)
        (closed,) = end(session)
        assert (closed.lost, closed.unsent) == (["a", "c"], ["d"])
        assert sent(session) == [DeliverSmResp(b"", 0, 50)]


def test_an_end_in_the_middle_of_a_pdu_is_clean() -> None:
    session = bound_esme()
    assert session.receive_data(codec.encode(DELIVER)[:20], 1.0) == []
    (closed,) = session.receive_eof(2.0)
    assert isinstance(closed, Closed)
    assert closed.reason is CloseReason.PEER_CLOSED


# ------------------------------------------------------------------------------------------------------------
# The SMSC's side
# ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("command_id", "bind_type", "free"),
    [
        (c.BIND_TRANSMITTER, BindType.TRANSMITTER, 0),
        (c.BIND_RECEIVER, BindType.RECEIVER, 5),
        (c.BIND_TRANSCEIVER, BindType.TRANSCEIVER, 5),
    ],
)
def test_smsc_binds_an_esme(feed: Feed, command_id: int, bind_type: BindType, free: int) -> None:
    session = new_smsc()
    bind = Bind(command_id, b"acme", b"pw", sequence_number=7)
    assert feed(session, octets(bind), 1.0) == [BindRequested(bind, bind_type)]
    with pytest.raises(SessionClosed):
        session.accept_bind(8)
    session.accept_bind(7)
    (resp,) = sent(session)
    assert resp == BindResp(command_id | c.RESPONSE_BIT, b"smsc", {0x0210: b"\x34"}, 0, 7)
    assert (session.free, session.peer_system_id, session.bind_type) == (free, b"acme", bind_type)
    with pytest.raises(SessionClosed):
        session.accept_bind(7)


def test_smsc_refuses_a_bind_and_takes_another_try(feed: Feed) -> None:
    session = new_smsc()
    feed(session, octets(Bind(c.BIND_TRANSCEIVER, b"acme", b"no", sequence_number=1)), 1.0)
    session.accept_bind(1, c.RINVPASWD)
    (resp,) = sent(session)
    assert (resp.command_status, session.state) == (c.RINVPASWD, SessionState.OPEN)
    events = feed(session, octets(Bind(c.BIND_TRANSCEIVER, b"acme", b"yes", sequence_number=2)), 2.0)
    assert isinstance(events[0], BindRequested)
    session.accept_bind(2)
    assert session.bound


def test_smsc_refuses_what_comes_before_the_bind_or_twice(feed: Feed) -> None:
    session = new_smsc()
    feed(session, octets(SubmitSm(sequence_number=5)), 1.0)
    assert sent(session) == [SubmitSmResp(b"", c.RINVBNDSTS, 5)]
    session = bound_smsc()
    feed(session, octets(Bind(c.BIND_TRANSCEIVER, sequence_number=6), DeliverSm(sequence_number=7)), 1.0)
    assert [(pdu.command_id, pdu.command_status) for pdu in sent(session)] == [
        (c.BIND_TRANSCEIVER_RESP, c.RALYBND),
        (c.DELIVER_SM_RESP, c.RINVBNDSTS),
    ]
    session = bound_smsc(c.BIND_RECEIVER)
    feed(session, octets(SubmitSm(sequence_number=5)), 1.0)
    assert sent(session) == [SubmitSmResp(b"", c.RINVBNDSTS, 5)]


def test_smsc_drops_who_never_binds() -> None:
    session = new_smsc(session_init_timer_s=10.0)
    assert session.next_deadline() == 10.0
    (closed,) = session.tick(10.0)
    assert isinstance(closed, Closed)
    assert closed.reason is CloseReason.BIND_TIMEOUT


def test_smsc_takes_and_answers_submits(feed: Feed) -> None:
    session = bound_smsc()
    submits = [SubmitSm(short_message=b"%d" % n, sequence_number=n) for n in (0, 7, 0xFFFFFFFF)]
    assert feed(session, octets(*submits), 1.0) == [SubmitReceived(pdu) for pdu in submits]
    session.respond_submit(0xFFFFFFFF, b"id")
    session.respond_submit(0, status=c.RTHROTTLED)
    assert sent(session) == [SubmitSmResp(b"id", 0, 0xFFFFFFFF), SubmitSmResp(b"", c.RTHROTTLED, 0)]


def test_smsc_answers_a_submit_it_cannot_read(feed: Feed) -> None:
    session = bound_smsc()
    (event,) = feed(session, malformed(c.SUBMIT_SM, 5), 1.0)
    assert isinstance(event, ProtocolProblem)
    assert sent(session) == [SubmitSmResp(b"", c.RINVMSGLEN, 5)]


def test_smsc_delivers_and_hears_back(feed: Feed) -> None:
    session = bound_smsc(window=2, response_timer_s=10.0, enquire_link_s=0)
    first, second = session.deliver(DELIVER, "a", 1.0), session.deliver(DELIVER, "b", 2.0)
    with pytest.raises(WindowFull):
        session.deliver(DELIVER, "c", 2.0)
    assert [pdu.sequence_number for pdu in sent(session)] == [first, second]
    answers = octets(DeliverSmResp(b"", 8, second), DeliverSmResp(b"", 0, 99), SubmitSmResp(b"", 0, first))
    assert feed(session, answers, 3.0) == [DeliverAnswered("b", 8, 2.0, 3.0, False)]
    assert session.counters.unmatched_responses == 2
    assert session.tick(11.0) == [DeliverTimedOut("a", 1.0, 11.0)]
    assert feed(session, octets(DeliverSmResp(b"", 0, first)), 12.0) == [DeliverAnswered("a", 0, 1.0, 12.0, True)]


# ------------------------------------------------------------------------------------------------------------
# Whatever happens: every context comes back once, every tick gets somewhere
# ------------------------------------------------------------------------------------------------------------
class EveryContextComesBack(RuleBasedStateMachine):
    """A peer that answers, stays silent, repeats itself, unbinds or leaves, in any order."""

    @initialize()
    def bind(self) -> None:
        self.session = bound_esme(window=4, response_timer_s=10.0, enquire_link_s=15.0)
        self.now = 0.0
        self.given: list[int] = []
        self.back: list[int] = []
        self.closed = 0

    def take(self, events: list[Event]) -> None:
        for event in events:
            assert self.closed == 0, "Closed is the last event"
            if isinstance(event, SubmitTimedOut) or (isinstance(event, SubmitAnswered) and not event.late):
                self.back.append(event.context)
            elif isinstance(event, SubmitAnswered):
                assert event.context in self.back
            elif isinstance(event, Closed):
                self.closed += 1
                self.back += [*event.lost, *event.unsent]

    @precondition(lambda self: self.session.free)
    @rule()
    def submit(self) -> None:
        self.session.submit(SUBMIT, len(self.given), self.now)
        self.given.append(len(self.given))

    @rule()
    def write(self) -> None:
        self.session.data_to_send()

    @rule(number=st.integers(0, 25), status=st.sampled_from([0, 8, 0x58]))
    def answer(self, number: int, status: int) -> None:
        self.take(self.session.receive_data(codec.encode_submit_sm_resp(number, b"id", status), self.now))

    @rule(number=st.integers(0, 25))
    def nack(self, number: int) -> None:
        self.take(self.session.receive_data(octets(GenericNack(8, number)), self.now))

    @rule(number=st.integers(0, 25))
    def link_answer(self, number: int) -> None:
        self.take(self.session.receive_data(octets(EnquireLinkResp(0, number)), self.now))

    @rule(seconds=st.floats(0.1, 12))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.take(self.session.tick(self.now))

    @rule()
    def deadline_comes(self) -> None:
        deadline = self.session.next_deadline()
        if deadline is None:
            assert self.session.closed
            return
        self.now = max(self.now, deadline)
        self.take(self.session.tick(self.now))
        after = self.session.next_deadline()
        assert after is None or after > self.now, "a tick at the deadline settles what was due"

    @precondition(lambda self: len(self.given) > 3)
    @rule(how=st.sampled_from(["unbind", "peer_unbind", "eof", "close"]))
    def end(self, how: str) -> None:
        if how == "unbind":
            self.take(self.session.unbind(self.now))
        elif how == "peer_unbind":
            self.take(self.session.receive_data(octets(Unbind(0, 500)), self.now))
        elif how == "eof":
            self.take(self.session.receive_eof(self.now))
        else:
            self.take(self.session.close(self.now))

    @invariant()
    def nothing_comes_back_twice(self) -> None:
        assert len(self.back) == len(set(self.back))
        assert len(self.given) - len(self.back) == self.session.in_flight + len(self.session._unsent) * (
            self.closed == 0
        )
        assert (self.closed == 1) == self.session.closed

    def teardown(self) -> None:
        if hasattr(self, "session"):
            self.take(self.session.close(self.now))
            assert sorted(self.back) == self.given


TestEveryContextComesBack = EveryContextComesBack.TestCase
TestEveryContextComesBack.settings = settings(max_examples=80, stateful_step_count=40)


class BackToBack:
    """ESME and SMSC joined by a wire that cuts at random places, each with its ledger."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.esme, self.smsc = new_esme(window=50), new_smsc(window=50)
        self.wires = {self.esme: bytearray(), self.smsc: bytearray()}
        self.submitted: list[bytes] = []
        self.received: list[bytes] = []
        self.answered: dict[bytes, bytes] = {}
        self.delivered: list[bytes] = []
        self.acked: list[bytes] = []
        self.waiting: list[SubmitSm] = []
        self.esme.start(0.0)

    def turn(self, messages: int) -> None:
        """Submit some, answer some out of order with a receipt before the answer, move some octets."""
        self.now += 0.001
        while self.esme.free and len(self.submitted) < messages and self.rng.random() < 0.7:
            text = b"%d" % len(self.submitted)
            self.esme.submit(SubmitSm(destination_addr=b"8613", short_message=text), text, self.now)
            self.submitted.append(text)
        self.rng.shuffle(self.waiting)
        count = self.rng.randrange(20)
        for pdu in self.waiting[:count]:
            if self.smsc.free:
                self.smsc.deliver(DeliverSm(short_message=pdu.short_message), pdu.short_message, self.now)
                self.delivered.append(pdu.short_message)
            self.smsc.respond_submit(pdu.sequence_number, b"id" + pdu.short_message)
        del self.waiting[:count]
        for end, other in ((self.esme, self.smsc), (self.smsc, self.esme)):
            self.wires[other] += end.data_to_send()
            data = bytes(self.wires[end][: self.rng.randrange(600)])
            del self.wires[end][: len(data)]
            for event in end.receive_data(data, self.now):
                self.note(event)

    def note(self, event: Event) -> None:
        match event:
            case BindRequested():
                self.smsc.accept_bind(event.pdu.sequence_number)
            case SubmitReceived():
                self.received.append(event.pdu.short_message)
                self.waiting.append(event.pdu)
            case SubmitAnswered():
                self.answered[event.context] = event.message_id
            case DeliverReceived():
                self.esme.respond_deliver(event.pdu.sequence_number)
            case DeliverAnswered():
                self.acked.append(event.context)
            case _:
                assert isinstance(event, Bound)


@pytest.mark.parametrize("seed", range(5))
def test_two_sessions_talk_through_any_cut_of_their_octets(seed: int) -> None:
    pair = BackToBack(seed)
    for _ in range(4000):
        pair.turn(messages=1000)
        if len(pair.acked) == len(pair.delivered) and len(pair.answered) == 1000:
            break
    assert pair.received == pair.submitted
    assert pair.answered == {text: b"id" + text for text in pair.submitted}
    assert sorted(pair.acked) == sorted(pair.delivered)
    assert pair.delivered


def test_a_mutating_peer_never_makes_a_session_raise() -> None:
    """Without sockets: recorded PDUs with wounds, whole sessions long, both roles."""
    rng = random.Random(20261121)
    recorded = [
        octets(pdu)
        for pdu in (
            *(SubmitSmResp(b"id", 0, n) for n in range(1, 9)),
            DeliverSm(source_addr=b"86138", short_message=b"x" * 90, tlvs={0x1E: b"1\0"}, sequence_number=4),
            SubmitSm(short_message=b"x" * 40, sequence_number=5),
            DeliverSmResp(b"", 0, 3),
            EnquireLink(0, 6),
            EnquireLinkResp(0, 2),
            Unbind(0, 7),
            GenericNack(8, 0),
            Bind(c.BIND_TRANSCEIVER, b"acme", b"pw", sequence_number=1),
            BindResp(c.BIND_TRANSCEIVER_RESP, b"smsc", None, 0, 1),
            Unknown(0x0103, b"x", 0, 9),
        )
    ]
    ended = 0
    for round_ in range(3000):
        make = rng.choice([bound_esme, bound_smsc, new_esme, new_smsc])
        session = make(enquire_link_s=3.0, response_timer_s=5.0)
        now = 0.0
        for _ in range(12):
            pdu = bytearray(rng.choice(recorded))
            for _ in range(rng.randrange(3)):
                pdu[rng.randrange(len(pdu))] = rng.randrange(256)
            if rng.random() < 0.9:
                pdu[:4] = struct.pack(">I", len(pdu))
            now += rng.random()
            if session.free and session.role is Role.ESME:
                session.submit(SUBMIT, round_, now)
            for event in session.receive_data(bytes(pdu), now) + session.tick(now):
                react(session, event, rng)
            for out in sent(session):
                assert not isinstance(out, Malformed)
        ended += session.closed
    assert 100 < ended < 2900


def react(session: Session, event: Event, rng: random.Random) -> None:
    """Answer what an owner would answer."""
    if isinstance(event, BindRequested):
        session.accept_bind(event.pdu.sequence_number, rng.choice([0, 0, 0xD]))
    elif isinstance(event, DeliverReceived | DeliverMalformed):
        assert isinstance(event.pdu, DeliverSm | Malformed)
        session.respond_deliver(event.pdu.sequence_number)
    elif isinstance(event, SubmitReceived):
        session.respond_submit(event.pdu.sequence_number, b"id")
