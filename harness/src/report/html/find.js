const box = document.getElementById("find");
const cases = [...document.querySelectorAll(".case")].map((one) => [one, one.textContent.toLowerCase()]);
const find = () => {
  const words = box.value.toLowerCase();
  document.body.classList.toggle("finding", words !== "");
  for (const [one, text] of cases) one.classList.toggle("other", !text.includes(words));
};
box.hidden = false;
box.addEventListener("input", find);
const wanted = location.hash.match(/^#find=(.*)/);
if (wanted) {
  box.value = decodeURIComponent(wanted[1]);
  find();
}
