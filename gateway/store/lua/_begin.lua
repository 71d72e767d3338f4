-- How channels of one rank share (see claim.lua), kept in the server's memory from call to call: losing it costs nothing.
local share_specs, share_specs_n = {}, 0
local credits, credits_n = {}, 0
-- Frequency caps as accept.lua gets them, kept in the same way.
local cap_specs, cap_specs_n = {}, 0

-- Every move that shares this begins here: what the last call left behind is forgotten.
local function begin(prefix)
  P = prefix
  if not call then
    sub, byte, char, find, floor = string.sub, string.byte, string.char, string.find, math.floor
    call = redis.call
  end
  RETENTION[1], RETENTION[2], RETENTION[3] = nil, nil, nil
  stats, quality, gone, outs, consumers, waiting_delta, woke, everybodys_claims = {}, {}, {}, {}, nil, 0, false, nil
  ends = {}
end
