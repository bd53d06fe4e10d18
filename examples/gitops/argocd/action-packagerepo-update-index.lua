-- Runs one update of the index at once: any new value of the annotation does. Git does not name it, so it is no drift.
local os = require("os")
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["pywharf.dev/update-index"] = os.date("!%Y-%m-%dT%H:%M:%SZ")
return obj
