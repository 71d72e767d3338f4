#!lua
-- Keep a new version of a template.
--
-- Promise: a version, once it is there, never changes; numbers are given without gaps. Whoever follows sees it by `rev`.
-- Repeat: finds its content under the latest version, and answers `same` with that one's number.
-- KEYS 1 hash of all templates: rev; latest US id US → version; id US version → content; at US id US version → ms;
--   retired US id US version → ms. An id may be one of these words: a content's field is the only one with a single US
-- ARGV 1 id  2 version wanted ('': the next)  3 content (JSON)  4 most fields of the hash
-- Returns  put | same | conflict | full, and the version (for conflict: the latest there is)
local US = '\31'
local call = redis.call
local newest = 'latest' .. US .. ARGV[1] .. US
local latest = tonumber(call('HGET', KEYS[1], newest) or '0')
local wanted = ARGV[2] == '' and 0 or tonumber(ARGV[2])

local function holds(version)
  local place = ARGV[1] .. US .. version
  return call('HGET', KEYS[1], place) == ARGV[3] and call('HEXISTS', KEYS[1], 'retired' .. US .. place) == 0
end

if wanted > 0 and wanted ~= latest + 1 then
  if wanted <= latest and holds(wanted) then return { 'same', wanted } end
  return { 'conflict', latest }
end
if latest > 0 and wanted == 0 and holds(latest) then return { 'same', latest } end
if call('HLEN', KEYS[1]) >= tonumber(ARGV[4]) then return { 'full', latest } end
local t = call('TIME')
local place = ARGV[1] .. US .. (latest + 1)
call('HSET', KEYS[1], place, ARGV[3], newest, latest + 1,
  'at' .. US .. place, string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000)))
call('HINCRBY', KEYS[1], 'rev', 1)
return { 'put', latest + 1 }
