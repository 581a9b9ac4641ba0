-- Accounts and API keys, sealed. KEYS[1] and ARGV[1] are what they are below. ARGV[3]: their kind, `account` or `apikey`.
if string.sub(ARGV[1], 1, 7) == 'record.' then
  local verb, kind = string.sub(ARGV[1], 8), ARGV[3]
  local all = KEYS[1] .. ':' .. kind

  -- First, so that where it may not be told nothing changes unheard.
  local function tell(id)
    redis.call('PUBLISH', KEYS[1] .. ':ended', kind .. ' ' .. id)
  end

  -- ARGV[4..]: ids. Answers for each what there is.
  if verb == 'read' then
    local answer = {}
    for index = 4, #ARGV do
      answer[#answer + 1] = redis.call('GET', all .. ':' .. ARGV[index])
    end
    return answer
  end

  if verb == 'ids' then
    return redis.call('SMEMBERS', all)
  end

  -- ARGV[4]: the id, ARGV[5]: what was read (empty: nothing), ARGV[6]: what comes in its place, ARGV[7]: `1` to tell of it.
  if verb == 'put' then
    local key = all .. ':' .. ARGV[4]
    local known = redis.call('GET', key) or ''
    if known ~= ARGV[5] then
      return 0
    end
    if ARGV[7] == '1' then
      tell(ARGV[4])
    end
    local put = redis.pcall('SET', key, ARGV[6])
    if put.err then
      if known == '' or not string.find(put.err, 'OOM', 1, true) then
        return put
      end
      -- A memory that is full refuses a script its first write if that takes memory, and none after another: so what is
      -- suspended or revoked there is.
      redis.call('DEL', key)
      redis.call('SET', key, ARGV[6])
    end
    redis.call('SADD', all, ARGV[4])
    return 1
  end

  -- ARGV[4]: the id. Answers what there was.
  if verb == 'remove' then
    local key = all .. ':' .. ARGV[4]
    local known = redis.call('GET', key)
    if known then
      tell(ARGV[4])
      redis.call('DEL', key)
    end
    redis.call('SREM', all, ARGV[4])
    return known
  end

  return redis.error_reply('ERR unknown verb')
end
