#!lua flags=allow-oom
-- Take a template, or one version of it, out of use; it stays readable, for messages that were made of it.
--
-- Repeat: finds them retired, and keeps the time of the first call.
-- KEYS 1 hash of all templates (see template_put.lua)   ARGV 1 id  2 version ('': all there are)
-- Returns  -1 no such template or version, else how many versions were retired by this call
local US = '\31'
local call = redis.call
local latest = tonumber(call('HGET', KEYS[1], 'latest' .. US .. ARGV[1] .. US) or '0')
local first, last = 1, latest
if ARGV[2] ~= '' then first, last = tonumber(ARGV[2]), tonumber(ARGV[2]) end
if first < 1 or last > latest or latest == 0 then return -1 end
local t = call('TIME')
local now = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000))
local retired = 0
for version = first, last do
  retired = retired + call('HSETNX', KEYS[1], 'retired' .. US .. ARGV[1] .. US .. version, now)
end
if retired > 0 then call('HINCRBY', KEYS[1], 'rev', 1) end
return retired
