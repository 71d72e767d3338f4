'use strict';
// A carrier's SMSC built on npm's `smpp`, a reading of SMPP that shares nothing with ours or with smpplib.
//
// Owns what a carrier does with what it reads: it checks passwords, gives out ids, answers, sends receipts (again and
// again until they are acknowledged) and misbehaves on request. Every octet is read and written by the library; what it
// understood goes to the ledger, one JSON object a line, before the answer leaves. Knows nothing of the gateway.
//
//   node smsc.js --ledger FILE [--password WORD] [--default ASCII|LATIN1] [--key PEM --cert PEM [--ca PEM]]
//
// Prints {"port": N} once it listens. Commands are JSON lines on stdin, each answered on stdout with its `id`; see
// COMMANDS below. It ends when stdin does.

const fs = require('fs');
const { parseArgs } = require('util');
const smpp = require('smpp');

const { values: options } = parseArgs({
  options: {
    ledger: { type: 'string' },
    password: { type: 'string', default: 'secret' },
    default: { type: 'string', default: 'ASCII' }, // what data_coding 0 means here; the library's name for GSM 03.38
    key: { type: 'string' },
    cert: { type: 'string' },
    ca: { type: 'string' }, // the ESME must show a certificate of this authority
  },
});
smpp.encodings.default = options.default;
smpp.addCommand('vendor_check', { id: 0x00010777 }); // reserved for vendors (SMPP 3.4 §5.1.2.1); no ESME knows it

const RETRY_MS = 100; // before a refused receipt is sent again
const CAN_RECEIVE = ['receiver', 'transceiver'];
const CAN_SUBMIT = ['transmitter', 'transceiver'];
const MESSAGE_STATES = { DELIVRD: 2, EXPIRED: 3, DELETED: 4, UNDELIV: 5, ACCEPTD: 6, UNKNOWN: 7, REJECTD: 8 };

// How the next messages are treated. `by_number` may hold `status`, `stat` and `receipts` for single recipients.
const USUAL = {
  status: 0, // answered to the next `times` messages
  times: 0,
  stat: 'DELIVRD',
  receipts: 'text', // or ucs2, tlv, both, data_sm, data_sm_text, none
  hold: false, // keep the answers until `release`
  unbind_after: 0, // after so many messages unbind the session that brought the last
  rude: false, // … and answer nothing more on that session
  by_number: {},
};
let rules = { ...USUAL };

const sessions = new Map(); // number → {number, session, kind, systemId, rude}
const held = []; // answers that wait for `release`
const outbox = new Map(); // receipts that are not acknowledged: n → {n, systemId, on, …}
const ledger = fs.openSync(options.ledger, 'a');
let messages = 0;
let receipts = 0;

function note(kind, row) {
  fs.writeSync(ledger, JSON.stringify({ kind, at_ms: Date.now(), ...row }) + '\n');
}

function say(row) {
  process.stdout.write(JSON.stringify(row) + '\n');
}

// --- sessions

function serve(session) {
  const link = { number: sessions.size + 1, session, kind: '', systemId: '', rude: false };
  sessions.set(link.number, link);
  const socket = session.socket;
  note('connect', { session: link.number, tls: Boolean(socket.encrypted), certificate: certificateOf(socket) });
  for (const kind of ['transmitter', 'receiver', 'transceiver']) {
    session.on(`bind_${kind}`, (pdu) => bind(link, kind, pdu));
  }
  session.on('submit_sm', (pdu) => take(link, pdu));
  session.on('enquire_link', (pdu) => session.send(pdu.response()));
  session.on('unbind', (pdu) => session.send(pdu.response(), () => session.close()));
  session.on('pdu', (pdu) => {
    if (pdu.command !== 'submit_sm') {
      note('pdu', { session: link.number, command: pdu.command, status: pdu.command_status });
    }
  });
  session.on('error', (error) => {
    // Without a code it is the library that could not read what came.
    note(error.code ? 'socket_error' : 'decode_error', { session: link.number, error: String(error) });
    session.destroy();
  });
  session.on('close', () => {
    note('close', { session: link.number });
    link.kind = '';
    for (const receipt of outbox.values()) {
      if (receipt.on === link.number) receipt.on = 0;
    }
    flush();
  });
}

function certificateOf(socket) {
  const certificate = socket.encrypted && socket.authorized ? socket.getPeerCertificate() : null;
  return certificate && certificate.subject ? certificate.subject.CN : '';
}

function bind(link, kind, pdu) {
  const status = pdu.password === options.password ? smpp.ESME_ROK : smpp.ESME_RINVPASWD;
  note('bind', {
    session: link.number,
    bind: kind,
    system_id: pdu.system_id,
    system_type: pdu.system_type,
    interface_version: pdu.interface_version,
    status,
  });
  const answer = { command_status: status, system_id: 'npm', sc_interface_version: 0x34 };
  if (status) {
    link.session.send(pdu.response(answer), () => link.session.close());
    return;
  }
  link.kind = kind;
  link.systemId = pdu.system_id;
  link.session.send(pdu.response(answer));
  flush();
}

function links(kinds, systemId) {
  return [...sessions.values()].filter((l) => kinds.includes(l.kind) && (!systemId || l.systemId === systemId));
}

// --- messages

function take(link, pdu) {
  const n = ++messages;
  note('submit', { n, session: link.number, system_id: link.systemId, ...read(pdu) });
  if (!CAN_SUBMIT.includes(link.kind)) {
    answer({ n, link, pdu, status: smpp.ESME_RINVBNDSTS });
    return;
  }
  const leave = rules.unbind_after > 0 && --rules.unbind_after === 0;
  if (leave && rules.rude) link.rude = true;
  const waiting = { n, link, pdu, status: statusFor(pdu.destination_addr) };
  if (rules.hold) held.push(waiting);
  else if (!link.rude) answer(waiting);
  if (leave) unbind(link);
}

// What the library made of a submit_sm, in the ledger's words.
function read(pdu) {
  const inline = pdu.short_message || { message: '' };
  const payload = pdu.message_payload;
  const body = payload && !inline.message.length ? payload : inline;
  const period = pdu.validity_period;
  const tlvs = {};
  for (const key of Object.keys(pdu)) {
    // The library keeps a TLV that it does not know under its number.
    if (/^[0-9]+$/.test(key)) tlvs['0x' + Number(key).toString(16).padStart(4, '0')] = pdu[key].toString('hex');
  }
  return {
    to: pdu.destination_addr,
    to_type: [pdu.dest_addr_ton, pdu.dest_addr_npi],
    source: pdu.source_addr,
    source_type: [pdu.source_addr_ton, pdu.source_addr_npi],
    sequence_number: pdu.sequence_number,
    service_type: pdu.service_type,
    esm_class: pdu.esm_class,
    protocol_id: pdu.protocol_id,
    priority_flag: pdu.priority_flag,
    schedule_delivery_time: pdu.schedule_delivery_time,
    validity_s: period instanceof Date ? Math.round((period - Date.now()) / 1000) : null,
    registered_delivery: pdu.registered_delivery,
    replace_if_present_flag: pdu.replace_if_present_flag,
    data_coding: pdu.data_coding,
    place: body === payload ? 'message_payload' : 'short_message',
    text: Buffer.isBuffer(body.message) ? null : body.message,
    tlvs,
    ...partOf(pdu, body.udh || []),
  };
}

function partOf(pdu, udh) {
  if (pdu.sar_total_segments !== undefined) {
    return {
      joined_by: 'sar',
      reference: pdu.sar_msg_ref_num,
      parts: pdu.sar_total_segments,
      part: pdu.sar_segment_seqnum,
    };
  }
  for (const element of udh) {
    // 3GPP TS 23.040 §9.2.3.24.1 and .8: concatenation with 8 and with 16 bits of reference
    if (element[0] === 0x00 && element[1] === 3) {
      return { joined_by: 'udh8', reference: element[2], parts: element[3], part: element[4] };
    }
    if (element[0] === 0x08 && element[1] === 4) {
      return { joined_by: 'udh16', reference: element.readUInt16BE(2), parts: element[4], part: element[5] };
    }
  }
  return { joined_by: udh.length ? 'other' : '', reference: 0, parts: 1, part: 1 };
}

function statusFor(number) {
  const own = rules.by_number[number] || {};
  if (own.status !== undefined) return own.status;
  if (rules.times === 0) return 0;
  rules.times -= 1;
  return rules.status;
}

function answer({ n, link, pdu, status }) {
  const id = status ? '' : String(n).padStart(10, '0');
  note('answer', { n, status, smsc_id: id });
  link.session.send(pdu.response({ command_status: status, message_id: id }));
  if (!status) report(link, pdu, id);
}

function unbind(link) {
  link.session.unbind((pdu) => {
    note('reply', { session: link.number, request: 'unbind', command: pdu.command, status: pdu.command_status });
    link.session.close();
  });
}

// --- receipts

function report(link, pdu, id) {
  const own = rules.by_number[pdu.destination_addr] || {};
  const stat = own.stat || rules.stat;
  const form = own.receipts || rules.receipts;
  const asked = pdu.registered_delivery & 0x03; // SMPP 3.4 §5.2.17: 1 all, 2 only what failed
  if (form === 'none' || asked === 0 || (asked === 2 && stat === 'DELIVRD')) return;
  const n = ++receipts;
  const about = { to: pdu.destination_addr, smsc_id: id, stat };
  outbox.set(n, { n, about, form, on: 0, systemId: link.systemId, ...receiptOf(form, about, pdu.source_addr) });
  flush();
}

function receiptOf(form, { to, smsc_id: id, stat }, source) {
  const date = new Date().toISOString().replace(/[-T:]/g, '').slice(2, 12);
  const failed = stat !== 'DELIVRD';
  const text =
    `id:${id} sub:001 dlvrd:${failed ? '000' : '001'} submit date:${date} done date:${date} ` +
    `stat:${stat} err:${failed ? '021' : '000'} text:Hello`;
  const pdu = {
    source_addr_ton: 1,
    source_addr_npi: 1,
    source_addr: to,
    destination_addr: source,
    esm_class: smpp.ESM_CLASS.MC_DELIVERY_RECEIPT,
  };
  if (form === 'text' || form === 'both') pdu.short_message = text; // the library declares it data_coding 1
  if (form === 'ucs2') Object.assign(pdu, { short_message: text, data_coding: smpp.ENCODING.UCS2 });
  if (form === 'data_sm_text') pdu.message_payload = text;
  if (['tlv', 'both', 'data_sm'].includes(form)) {
    pdu.receipted_message_id = id;
    pdu.message_state = MESSAGE_STATES[stat];
    pdu.network_error_code = Buffer.from([3, 0, failed ? 27 : 0]); // GSM, absent subscriber
  }
  return { command: form.startsWith('data_sm') ? 'data_sm' : 'deliver_sm', pdu };
}

// Send every receipt that is with no session now to one that can take it.
function flush() {
  for (const receipt of outbox.values()) {
    const [link] = receipt.on ? [] : links(CAN_RECEIVE, receipt.systemId);
    if (link && link.session[receipt.command]({ ...receipt.pdu }, (pdu) => acknowledged(receipt, pdu))) {
      receipt.on = link.number;
      note('receipt', { n: receipt.n, session: link.number, form: receipt.form, ...receipt.about });
    }
  }
}

function acknowledged(receipt, pdu) {
  note('ack', { n: receipt.n, session: receipt.on, command: pdu.command, status: pdu.command_status });
  if (pdu.command_status === 0) {
    outbox.delete(receipt.n);
    return;
  }
  setTimeout(() => {
    receipt.on = 0;
    flush();
  }, RETRY_MS);
}

// --- control

const COMMANDS = {
  // Treat what comes from now on by these rules; what they do not name is as usual.
  rules: (order) => {
    rules = { ...USUAL, ...order.rules };
  },
  // Give the held answers, the last first.
  release: () => {
    const count = held.length;
    while (held.length) answer(held.pop());
    return { count };
  },
  // Send one PDU of any kind on every bound session, or on those of a kind. `hex` fields become octets.
  send: ({ command, pdu = {}, kinds = ['transmitter', 'receiver', 'transceiver'] }) => {
    const chosen = links(kinds);
    for (const link of chosen) {
      const fields = Object.entries(pdu).map(([key, v]) => [key, v && v.hex ? Buffer.from(v.hex, 'hex') : v]);
      link.session[command](Object.fromEntries(fields), (reply) => {
        const { command: name, command_status: status } = reply;
        note('reply', { session: link.number, request: command, command: name, status });
      });
    }
    return { count: chosen.length };
  },
  // Ask the sessions to end, those of a kind or all.
  unbind: ({ kinds = ['transmitter', 'receiver', 'transceiver'] }) => {
    const chosen = links(kinds);
    chosen.forEach(unbind);
    return { count: chosen.length };
  },
};

require('readline')
  .createInterface({ input: process.stdin })
  .on('line', (line) => {
    const order = JSON.parse(line);
    say({ id: order.id, ...COMMANDS[order.do](order) });
  })
  .on('close', () => process.exit(0));

const tls = options.key && {
  key: fs.readFileSync(options.key),
  cert: fs.readFileSync(options.cert),
  ...(options.ca && { ca: fs.readFileSync(options.ca), requestCert: true, rejectUnauthorized: true }),
};
const server = smpp.createServer(tls || {}, serve);
server.on('tlsClientError', (error) => note('tls_error', { error: error.code || String(error) }));
server.listen(0, '127.0.0.1', () => say({ port: server.address().port }));
