-- Health of a PackagePolicy: Healthy, Progressing (it gets there by itself) or Degraded (somebody must act).
-- Argo CD runs it as Lua 5.1 without the libraries string and math.
local aspects = {"Accepted", "Programmed", "Ready"} -- the first that is not True decides
local waiting = {NoReadyReplica = true, Waiting = true} -- reasons that pass by themselves

local function health(status, message)
  return {status = status, message = message}
end

local status = obj.status
if status == nil or status.conditions == nil then
  return health("Progressing", "The operator has not seen it yet.")
end
if status.observedGeneration ~= obj.metadata.generation then
  return health("Progressing", "The operator has not seen this version yet.")
end

local found = {}
for _, condition in ipairs(status.conditions) do
  found[condition.type] = condition
end
if found.Ready == nil then
  return health("Progressing", "It is not Ready yet.")
end
for _, aspect in ipairs(found.Ready.status == "True" and {} or aspects) do
  local condition = found[aspect]
  if condition ~= nil and condition.status ~= "True" then
    local passes = condition.status == "Unknown" or waiting[condition.reason]
    return health(passes and "Progressing" or "Degraded", condition.message)
  end
end
return health("Healthy", found.Ready.message)
